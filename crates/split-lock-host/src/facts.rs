//! The facts, each with "could not see it" as a value of its own.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Detection;

/// Something that a machine may have, as far as it could be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<T> {
    /// It is there, and this is what it says.
    Is(T),
    /// It is not there.
    Absent,
    /// It may be there.
    CouldNotSee {
        /// Where it was looked for.
        path: PathBuf,
        /// Why it could not be seen.
        why: String,
    },
}

impl<T> Seen<T> {
    /// The value, if there is one and it could be seen.
    pub fn known(&self) -> Option<&T> {
        match self {
            Seen::Is(value) => Some(value),
            Seen::Absent | Seen::CouldNotSee { .. } => None,
        }
    }

    fn map<U>(self, f: impl FnOnce(T) -> U) -> Seen<U> {
        match self {
            Seen::Is(value) => Seen::Is(f(value)),
            Seen::Absent => Seen::Absent,
            Seen::CouldNotSee { path, why } => Seen::CouldNotSee { path, why },
        }
    }
}

/// What a machine says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Model name of the first CPU (`/proc/cpuinfo`).
    pub cpu_model: Seen<String>,
    /// Flags of the first CPU (`/proc/cpuinfo`).
    pub cpu_flags: Seen<BTreeSet<String>>,
    /// Logical CPUs that are online (`/proc/cpuinfo`).
    pub online_cpus: Seen<usize>,
    /// Kernel release (`/proc/sys/kernel/osrelease`).
    pub kernel_release: Seen<String>,
    /// Kernel command line (`/proc/cmdline`).
    pub command_line: Seen<String>,
    /// `kernel.split_lock_mitigate` (since Linux 6.2, and 6.1 with updates).
    pub split_lock_mitigate: Seen<String>,
}

impl Facts {
    /// Looks at the machine whose root directory this is.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let cpuinfo = read(root, "proc/cpuinfo");
        let trimmed = |path| read(root, path).map(|text| text.trim().to_owned());
        Facts {
            cpu_model: field(&cpuinfo, "model name"),
            cpu_flags: field(&cpuinfo, "flags")
                .map(|flags| flags.split_whitespace().map(str::to_owned).collect()),
            online_cpus: cpuinfo.map(|text| {
                let cpus = text.lines().filter(|line| line.starts_with("processor"));
                cpus.count()
            }),
            kernel_release: trimmed("proc/sys/kernel/osrelease"),
            command_line: trimmed("proc/cmdline"),
            split_lock_mitigate: trimmed("proc/sys/kernel/split_lock_mitigate"),
        }
    }

    /// What follows from them.
    #[must_use]
    pub fn detection(&self) -> Detection {
        Detection::of(self)
    }

    /// Whether the first CPU has a flag; `None` if that could not be seen.
    #[must_use]
    pub fn has_cpu_flag(&self, flag: &str) -> Option<bool> {
        self.cpu_flags.known().map(|flags| flags.contains(flag))
    }
}

fn read(root: &Path, below: &str) -> Seen<String> {
    let path = root.join(below);
    match fs::read(&path) {
        Ok(bytes) => Seen::Is(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Seen::Absent,
        Err(error) => Seen::CouldNotSee {
            path,
            why: error.to_string(),
        },
    }
}

/// The first line `name : value`.
fn field(text: &Seen<String>, name: &str) -> Seen<String> {
    let find = |text: String| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        })
    };
    match text.clone().map(find) {
        Seen::Is(Some(value)) => Seen::Is(value),
        Seen::Is(None) | Seen::Absent => Seen::Absent,
        Seen::CouldNotSee { path, why } => Seen::CouldNotSee { path, why },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            #[expect(clippy::disallowed_methods, reason = "a test's own file")]
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_captured_machine_is_read_below_its_root() {
        let root = root(&[
            (
                "proc/cpuinfo",
                "processor\t: 0\nmodel name\t: Some CPU: fast\nflags\t\t: fpu split_lock_detect\n\n\
                 processor\t: 1\nmodel name\t: Some CPU: fast\n",
            ),
            ("proc/sys/kernel/osrelease", "6.6.1\n"),
            ("proc/cmdline", "quiet split_lock_detect=off\n"),
        ]);
        let facts = Facts::read(root.path());
        assert_eq!(facts.cpu_model, Seen::Is("Some CPU: fast".into()));
        assert_eq!(facts.has_cpu_flag("split_lock_detect"), Some(true));
        assert_eq!(facts.has_cpu_flag("hypervisor"), Some(false));
        assert_eq!(facts.online_cpus, Seen::Is(2));
        assert_eq!(facts.kernel_release, Seen::Is("6.6.1".into()));
        assert_eq!(facts.split_lock_mitigate, Seen::Absent);
    }

    #[test]
    fn what_cannot_be_read_is_not_absent() {
        // A directory in the place of a file.
        let root = root(&[("proc/cpuinfo/x", "")]);
        let facts = Facts::read(root.path());
        assert!(
            matches!(facts.cpu_flags, Seen::CouldNotSee { .. }),
            "{facts:?}"
        );
        assert_eq!(facts.has_cpu_flag("fpu"), None);
    }

    #[test]
    fn a_damaged_cpuinfo_has_no_flags() {
        let root = root(&[("proc/cpuinfo", "\u{0}:\n::\nflags\n")]);
        assert_eq!(Facts::read(root.path()).cpu_flags, Seen::Absent);
    }
}
