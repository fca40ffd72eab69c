//! What tells whose machine it is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{FIRST_ENVIRONMENT, process};
use crate::facts;
use crate::root::{Entry, Record};

const GONE: &str = "redacted";

/// Of the environment of the first process just the variable that names its container.
pub(super) fn first_environment(record: &mut Record) {
    if let Some(Entry::File(bytes)) = record.entries.get_mut(Path::new(FIRST_ENVIRONMENT)) {
        let mut variables = bytes.split(|&byte| byte == 0);
        let container = variables.find(|variable| variable.starts_with(b"container="));
        *bytes = container.unwrap_or_default().to_vec();
    }
}

pub(super) fn redact(record: &mut Record) {
    for (path, entry) in &mut record.entries {
        match entry {
            Entry::File(bytes) => {
                if let Some(redacted) = file(path, bytes) {
                    *bytes = redacted;
                }
            }
            Entry::Link(target) => *target = link(path, target),
            Entry::Folder | Entry::There | Entry::Refused(_) => {}
        }
    }
}

/// What is left of a file; `None` if nothing has to go.
fn file(path: &Path, bytes: &[u8]) -> Option<Vec<u8>> {
    if path == Path::new("proc/cmdline") {
        return Some(kernel_command_line(bytes));
    }
    if facts::is_config(path) {
        return Some(facts::config_in_use(bytes));
    }
    let of_process =
        process(path).is_some() || path.starts_with("proc/self") || path.starts_with("proc/1");
    match path.file_name().filter(|_| of_process)?.as_bytes() {
        b"cmdline" => Some(command_line(bytes)),
        b"cgroup" => Some(cgroups(bytes)),
        b"status" => Some(status(bytes)),
        _ => None,
    }
}

/// Words about split locks stay.
fn kernel_command_line(line: &[u8]) -> Vec<u8> {
    let line = String::from_utf8_lossy(line);
    let about = ["split_lock_detect=", "sysctl.kernel.split_lock_mitigate="];
    let kept = |word| match about.iter().any(|name| str::starts_with(word, name)) {
        true => word,
        false => GONE,
    };
    let words: Vec<&str> = line.split_ascii_whitespace().map(kept).collect();
    format!("{}\n", words.join(" ")).into_bytes()
}

/// What a virtual machine is recognized by, and what tells how it is run. Any other word may be a secret, also one
/// that begins like an option.
#[rustfmt::skip]
const OPTIONS: [&str; 27] = [
    "-name", "--name", "-uuid", "--uuid", "-id", "--id", "-smbios", "--smbios", "-enable-kvm", "--enable-kvm",
    "-accel", "-machine", "-M", "-cpu", "-smp", "-m", "--parent-cpu-time-us", "--api-sock", "--api-socket", "--disk",
    "--socket", "-s", "-n", "--startvm", "-startvm", "--comment", "-comment",
];

/// The program stays, and the names of options that are no secret.
fn command_line(line: &[u8]) -> Vec<u8> {
    let arguments = line.split(|&byte| byte == 0).enumerate();
    let kept: Vec<&[u8]> = arguments
        .map(|(index, argument)| match argument {
            b"" => b"",
            program if index == 0 => program_name(program),
            // What comes first is a command, such as crosvm's.
            b"run" if index == 1 => argument,
            option if OPTIONS.iter().any(|known| known.as_bytes() == option) => option,
            _ => GONE.as_bytes(),
        })
        .collect();
    kept.join(&0)
}

/// Some programs write there what they do, and for whom; Wine writes paths of Windows.
fn program_name(program: &[u8]) -> &[u8] {
    let path = program.split(|&byte| byte == b' ').next();
    let name = path.and_then(|path| path.rsplit(|byte| b"/\\".contains(byte)).next());
    name.unwrap_or_default()
}

/// The words that tell which kind of container or service it is.
#[rustfmt::skip]
const KINDS: [&str; 14] = [
    "docker", "libpod", "crio", "cri-containerd", "containerd", "kubepods", "lxc", "machine.slice", "machine-qemu",
    "system.slice", "user.slice", "init.scope", "emulator", "libvirt",
];

fn cgroups(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<_> = text
        .lines()
        .map(|line| {
            // Number, controllers and a path, which may have colons of its own.
            let mut fields = line.splitn(3, ':');
            match (fields.next(), fields.next(), fields.next()) {
                (Some(number), Some(controllers), Some(path)) => {
                    let parts: Vec<_> = path.split('/').map(cgroup).collect();
                    format!("{number}:{controllers}:{}\n", parts.join("/"))
                }
                _ => format!("{GONE}\n"),
            }
        })
        .collect();
    lines.concat().into_bytes()
}

fn cgroup(part: &str) -> String {
    let suffix = [".scope", ".service", ".slice"]
        .iter()
        .find(|suffix| part.ends_with(**suffix));
    match KINDS.into_iter().find(|kind| part.starts_with(kind)) {
        _ if part.is_empty() => String::new(),
        Some(kind) if kind == part => part.to_owned(),
        Some(kind) => format!("{kind}-{GONE}{}", suffix.unwrap_or(&"")),
        None => GONE.to_owned(),
    }
}

/// A program's name stays, and what is no path; of a file that a process has open nothing.
fn link(path: &Path, target: &Path) -> PathBuf {
    let is_program = path.file_name() == Some(OsStr::new("exe"));
    let gone = Path::new("/redacted");
    match target.file_name() {
        _ if !target.is_absolute() => target.to_owned(),
        Some(name) if is_program => gone.join(name),
        _ => gone.to_owned(),
    }
}

/// Which process and whose it is: there is more in that file than anybody needs to know.
fn status(text: &[u8]) -> Vec<u8> {
    let kept = ["Name:", "Tgid:", "Pid:", "PPid:", "Uid:", "Threads:"];
    let is_kept = |line: &&[u8]| kept.iter().any(|name| line.starts_with(name.as_bytes()));
    let lines = text.split_inclusive(|&byte| byte == b'\n');
    lines.filter(is_kept).collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "s3cr3t";

    #[test]
    fn a_program_keeps_its_name() {
        for (line, kept) in [
            (
                "/usr/bin/qemu-system-x86_64\0-name\0guest=x",
                "qemu-system-x86_64\0-name\0redacted",
            ),
            (r"Z:\home\s3cr3t\game.exe", "game.exe"),
            ("postgres: s3cr3t db 10.0.0.1", "postgres:"),
            (
                "x\0--password:s3cr3t\0-ps3cr3t\0--key\0-s3cr3t\0",
                "x\0redacted\0redacted\0redacted\0redacted\0",
            ),
        ] {
            assert_eq!(
                String::from_utf8_lossy(&command_line(line.as_bytes())),
                kept
            );
        }
    }

    #[test]
    fn a_cgroups_path_may_have_colons() {
        let text = b"0::/kubepods.slice/kubepods-s3cr3t.slice:cri-containerd:s3cr3t\n7:cpu,cpuacct:/docker/s3cr3t\n";
        let kept =
            "0::/kubepods-redacted.slice/kubepods-redacted\n7:cpu,cpuacct:/docker/redacted\n";
        assert_eq!(String::from_utf8_lossy(&cgroups(text)), kept);
    }

    #[test]
    fn what_a_process_has_open_is_nobodys_business() {
        for (path, target, kept) in [
            (
                "proc/7/exe",
                "/home/x/qemu-system-x86_64",
                "/redacted/qemu-system-x86_64",
            ),
            ("proc/7/fd/3", "/home/x/s3cr3t.qcow2", "/redacted"),
            ("proc/7/fd/4", "anon_inode:kvm-vm", "anon_inode:kvm-vm"),
            ("proc/7/cwd", "/", "/redacted"),
        ] {
            assert_eq!(link(Path::new(path), Path::new(target)), Path::new(kept));
        }
        let text = b"Name:\tx\nUid:\t1\t1\t1\t1\nGroups:\t27 1000\nTgid:\t7\n";
        assert_eq!(status(text), b"Name:\tx\nUid:\t1\t1\t1\t1\nTgid:\t7\n");
    }

    /// Something secret where values are: after what may come before one.
    fn text(before: &'static [&'static str]) -> impl Strategy<Value = String> {
        let part = prop::sample::select(before).prop_map(|before| format!("{before}{SECRET}"));
        prop::collection::vec(part, 1..5).prop_map(|parts| parts.concat())
    }

    fn record(files: Vec<(&str, String)>) -> Record {
        let entries = files
            .into_iter()
            .map(|(path, text)| (path.into(), Entry::File(text.into_bytes())));
        Record {
            entries: entries.collect(),
        }
    }

    proptest! {
        #[test]
        fn no_secret_stays(
            kernel in text(&[" root=UUID=", " ", "\n", " -- ", " a=split_lock_detect=", "\"split_lock_detect=off "]),
            process in text(&["/", "/x\0--name=", "/x\0", "\0-D", "\0a=-", "\0/", r"C:\x:"]),
            group in text(&["0::/", "1:cpu:/docker/", "\n0::/a:", "/docker-", "/system.slice/", "/x.scope:"]),
            config in text(&["CONFIG_DEFAULT_HOSTNAME=", "CONFIG_HZ_100=", "CONFIG_HZ=250\n", "# ", "\nCONFIG_CMDLINE="]),
        ) {
            let process = format!("/bin/x\0{process}").replace("\0-D", "\0-D:");
            let mut record = record(vec![
                ("proc/cmdline", kernel),
                ("proc/7/cmdline", process),
                ("proc/7/cgroup", format!("0::/{group}")),
                ("boot/config-6.6", config),
            ]);
            redact(&mut record);
            for (path, entry) in &record.entries {
                let Entry::File(bytes) = entry else { unreachable!() };
                let left = String::from_utf8_lossy(bytes);
                prop_assert!(!left.contains(SECRET), "{}: {left}", path.display());
            }
        }
    }
}
