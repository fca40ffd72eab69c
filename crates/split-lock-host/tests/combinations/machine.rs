//! A machine that is put together of what it says.

use split_lock_host::{Condition, Root, Verdict};

use crate::{files, judged};

/// What a machine says; what is `None` is not there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    pub(crate) vendor: String,
    pub(crate) flags: String,
    pub(crate) release: String,
    pub(crate) command_line: String,
    pub(crate) mitigate: Option<String>,
    pub(crate) config: Option<String>,
    pub(crate) log: Option<String>,
    /// Other files, which are empty or say what is here.
    pub(crate) more: Vec<(&'static str, &'static str)>,
}

impl Machine {
    pub(crate) fn intel(release: &str, flags: &str) -> Self {
        Machine {
            vendor: "GenuineIntel".into(),
            flags: flags.into(),
            release: release.into(),
            ..Machine::default()
        }
    }

    pub(crate) fn amd(release: &str, flags: &str) -> Self {
        Machine {
            vendor: "AuthenticAMD".into(),
            ..Machine::intel(release, flags)
        }
    }

    pub(crate) fn with_command_line(mut self, command_line: &str) -> Self {
        self.command_line = command_line.into();
        self
    }

    pub(crate) fn with_mitigate(mut self, value: &str) -> Self {
        self.mitigate = Some(value.into());
        self
    }

    pub(crate) fn with_config(mut self, config: &str) -> Self {
        self.config = Some(config.into());
        self
    }

    /// With lines of its kernel, since it started.
    pub(crate) fn with_log(self, lines: &[&str]) -> Self {
        let release = self.release.clone();
        self.with_log_of(&release, lines)
    }

    pub(crate) fn with_log_of(mut self, release: &str, lines: &[&str]) -> Self {
        let mut log = format!("[    0.000000] Linux version {release} (x)\n");
        for line in lines {
            log += &format!("[    0.100000] {line}\n");
        }
        self.log = Some(log);
        self
    }

    pub(crate) fn with_files(mut self, more: &[(&'static str, &'static str)]) -> Self {
        self.more = more.to_vec();
        self
    }

    pub(crate) fn verdict(&self) -> Verdict {
        judged(&Root::open(self.folder().path()).unwrap())
    }

    pub(crate) fn folder(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| files::write(folder.path(), path, text);
        let (vendor, flags) = (&self.vendor, &self.flags);
        let cpuinfo = format!("processor : 0\nvendor_id : {vendor}\nflags : {flags}\n");
        write("proc/cpuinfo", &cpuinfo);
        write("proc/sys/kernel/osrelease", &self.release);
        write("proc/cmdline", &self.command_line);
        for (path, text) in [
            ("proc/sys/kernel/split_lock_mitigate", &self.mitigate),
            ("proc/config.gz", &self.config),
            ("var/log/dmesg", &self.log),
        ] {
            if let Some(text) = text {
                write(path, text);
            }
        }
        for (path, text) in &self.more {
            write(path, text);
        }
        folder
    }

    pub(crate) fn condition(&self) -> Condition {
        self.verdict().condition
    }
}
