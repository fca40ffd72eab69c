//! What tells whose machine it is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{FIRST_ENVIRONMENT, process};
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
            Entry::Link(target) => *target = link(target),
            Entry::Folder | Entry::There | Entry::Refused(_) => {}
        }
    }
}

/// What is left of a file; `None` if nothing has to go.
fn file(path: &Path, bytes: &[u8]) -> Option<Vec<u8>> {
    if path == Path::new("proc/cmdline") {
        return Some(kernel_command_line(bytes));
    }
    let of_process =
        process(path).is_some() || path.starts_with("proc/self") || path.starts_with("proc/1");
    match path.file_name().filter(|_| of_process)?.as_bytes() {
        b"cmdline" => Some(command_line(bytes)),
        b"cgroup" => Some(cgroups(bytes)),
        _ => None,
    }
}

/// Words about split locks stay.
fn kernel_command_line(line: &[u8]) -> Vec<u8> {
    let words = line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let kept: Vec<&[u8]> = words
        .map(|word| match word {
            word if word.starts_with(b"split_lock_detect=") => word,
            word if word.starts_with(b"sysctl.kernel.split_lock_mitigate=") => word,
            _ => GONE.as_bytes(),
        })
        .collect();
    [&kept.join(&b' ')[..], b"\n"].concat()
}

/// The program stays, and the names of options.
fn command_line(line: &[u8]) -> Vec<u8> {
    let arguments = line.split(|&byte| byte == 0).enumerate();
    let kept: Vec<Vec<u8>> = arguments
        .map(|(index, argument)| match argument {
            b"" => vec![],
            program if index == 0 => {
                let name = program.rsplit(|&byte| byte == b'/').next();
                name.unwrap_or_default().to_vec()
            }
            option if option.starts_with(b"-") => {
                match option.iter().position(|&byte| byte == b'=') {
                    Some(end) => [&option[..=end], GONE.as_bytes()].concat(),
                    None => option.to_vec(),
                }
            }
            _ => GONE.as_bytes().to_vec(),
        })
        .collect();
    kept.join(&0)
}

/// The words that tell which kind of container or service it is.
const KINDS: [&str; 14] = [
    "docker",
    "libpod",
    "crio",
    "cri-containerd",
    "containerd",
    "kubepods",
    "lxc",
    "machine.slice",
    "machine-qemu",
    "system.slice",
    "user.slice",
    "init.scope",
    "emulator",
    "libvirt",
];

fn cgroups(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<_> = text
        .lines()
        .map(|line| match line.rsplit_once(':') {
            Some((controllers, path)) => {
                let parts: Vec<_> = path.split('/').map(cgroup).collect();
                format!("{controllers}:{}\n", parts.join("/"))
            }
            None => format!("{GONE}\n"),
        })
        .collect();
    lines.concat().into_bytes()
}

fn cgroup(part: &str) -> String {
    let suffix = [".scope", ".service", ".slice"]
        .iter()
        .find(|suffix| part.ends_with(**suffix));
    match KINDS.iter().find(|kind| part.starts_with(**kind)) {
        _ if part.is_empty() => String::new(),
        Some(kind) if *kind == part => part.to_owned(),
        Some(kind) => format!("{kind}-{GONE}{}", suffix.unwrap_or(&"")),
        None => GONE.to_owned(),
    }
}

/// The program's name stays, and what is no path.
fn link(target: &Path) -> PathBuf {
    match target.file_name().filter(|_| target.is_absolute()) {
        Some(name) => Path::new(OsStr::from_bytes(b"/redacted")).join(name),
        None => target.to_owned(),
    }
}
