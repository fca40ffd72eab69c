//! What is below the kernel, and what is above it: hypervisor, container, KVM, distribution.

use std::collections::BTreeSet;

use kvm_ioctls::Kvm as Device;
use serde::Serialize;

use crate::Root;
use crate::observed::{Fact, Observed};

/// `KVM_CAP_X86_BUS_LOCK_EXIT`
const BUS_LOCK_EXIT: u32 = 193;

/// KVM on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kvm {
    /// Whether there is `/dev/kvm`.
    pub device: Fact<()>,
    /// The modes of `KVM_CAP_X86_BUS_LOCK_EXIT` (a VMM can be told of its guest's bus locks): 0 where there are none.
    pub bus_lock_exit: Fact<u32>,
}

impl Kvm {
    pub(super) fn read(root: &Root) -> Self {
        let modes = root.ask("kvm-bus-lock-exit", || match Device::new() {
            Ok(kvm) => Observed::Is(kvm.check_extension_raw(BUS_LOCK_EXIT.into()).to_string()),
            Err(error) if std::io::Error::from(error).kind() == std::io::ErrorKind::NotFound => {
                Observed::Absent
            }
            Err(error) => Observed::Unreadable {
                path: "/dev/kvm".into(),
                why: error.to_string(),
            },
        });
        Kvm {
            device: root.has("dev/kvm").from("/dev/kvm"),
            bus_lock_exit: modes
                .find(|modes| modes.parse().ok())
                .from("KVM_CHECK_EXTENSION of /dev/kvm"),
        }
    }
}

/// A distribution, as `/etc/os-release` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Os {
    /// `debian`
    pub id: String,
    /// What it is made from: `rhel fedora`.
    pub like: Vec<String>,
    /// `Debian GNU/Linux 12 (bookworm)`
    pub name: String,
}

impl Os {
    pub(super) fn read(root: &Root) -> Fact<Self> {
        let places = ["etc/os-release", "usr/lib/os-release"];
        let text = |place: &str| root.text(place).from(root.origin(place));
        let first = text(places[0]);
        let found = match first.value {
            Observed::Absent => text(places[1]),
            _ => first,
        };
        found.value.map(|text| Os::parse(&text)).from(found.from)
    }

    pub(crate) fn parse(text: &str) -> Self {
        let value = |name| value(text, name).unwrap_or_default();
        let like = value("ID_LIKE");
        Os {
            id: value("ID"),
            like: like.split_whitespace().map(str::to_owned).collect(),
            name: value("PRETTY_NAME"),
        }
    }

    /// Whether it is, or is made from, one of this name.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.id == name || self.like.iter().any(|like| like == name)
    }
}

/// A variable of a file that shells can read.
fn value(text: &str, name: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

pub(super) fn hypervisor(root: &Root, flags: &Fact<BTreeSet<String>>) -> Fact<String> {
    let has_flag = flags
        .value
        .clone()
        .find(|flags| flags.contains("hypervisor").then_some(()));
    let name = || {
        let line = |path| root.text(path).known().map(|text| text.trim().to_owned());
        let maker = line("sys/hypervisor/type").or_else(|| line("sys/class/dmi/id/sys_vendor"));
        maker.filter(|name| !name.is_empty())
    };
    has_flag
        .map(|()| name().unwrap_or_else(|| "a hypervisor".into()))
        .from(format!("{} (flag hypervisor)", flags.from))
}

/// Each kind of container leaves its own trace, and some leave none.
pub(super) fn container(root: &Root) -> Fact<String> {
    const SYSTEMD: &str = "run/systemd/container";
    if let Observed::Is(kind) = root.text(SYSTEMD)
        && !kind.trim().is_empty()
    {
        return Observed::Is(kind.trim().to_owned()).from(format!("/{SYSTEMD}"));
    }
    for (file, kind) in [(".dockerenv", "docker"), ("run/.containerenv", "podman")] {
        if root.has(file).is_there() == Some(true) {
            return Observed::Is(kind.to_owned()).from(format!("/{file}"));
        }
    }
    const FIRST_PROCESS: &str = "proc/1/environ";
    let kind = root.text(FIRST_PROCESS).find(|environment| {
        let mut variables = environment.split('\0');
        variables.find_map(|variable| Some(variable.strip_prefix("container=")?.to_owned()))
    });
    if let Observed::Is(kind) = kind {
        return Observed::Is(kind).from(format!("/{FIRST_PROCESS}"));
    }
    // Only root may read the environment of the first process, and in a container that is asked about it
    // is mostly another one that leaves a trace.
    Observed::Absent.from(format!("/{SYSTEMD}, /.dockerenv, /run/.containerenv"))
}

pub(super) fn dmesg_restrict(root: &Root) -> Fact<bool> {
    const FILE: &str = "proc/sys/kernel/dmesg_restrict";
    let restricted = root.text(FILE).map(|text| text.trim() != "0");
    restricted.from(format!("/{FILE}"))
}

#[cfg(test)]
mod tests {
    use crate::facts::fixture::facts;

    #[test]
    fn surroundings_leave_traces() {
        let machine = facts(&[
            ("proc/cpuinfo", "flags : fpu hypervisor\n"),
            ("sys/class/dmi/id/sys_vendor", "QEMU\n"),
            ("run/systemd/container", "lxc\n"),
            ("dev/kvm", ""),
            ("splitlock/kvm-bus-lock-exit", "3\n"),
            ("proc/sys/kernel/dmesg_restrict", "1\n"),
            (
                "etc/os-release",
                "PRETTY_NAME=\"Linux Mint 22\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n",
            ),
        ]);
        assert_eq!(machine.hypervisor.known().unwrap(), "QEMU");
        assert_eq!(machine.container.known().unwrap(), "lxc");
        assert!(machine.kvm.device.known().is_some());
        assert_eq!(machine.kvm.bus_lock_exit.known(), Some(&3));
        assert_eq!(machine.dmesg_restrict.known(), Some(&true));
        let os = machine.os.known().unwrap();
        assert!(os.is("debian") && os.is("linuxmint") && !os.is("fedora"));
        assert_eq!(os.name, "Linux Mint 22");
    }

    #[test]
    fn the_first_process_may_say_what_contains_it() {
        let machine = facts(&[("proc/1/environ", "TERM=linux\0container=lxc\0")]);
        assert_eq!(machine.container.known().unwrap(), "lxc");
        assert!(facts(&[]).container.known().is_none());
    }
}
