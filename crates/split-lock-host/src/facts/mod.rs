//! The facts, each with where it comes from, and with "could not see it" as a value of its own.

use std::collections::BTreeSet;
use std::io;

use serde::Serialize;
use split_lock_model::time::Hz;

use crate::{Events, Fact, Observed, Root};

mod config;
mod cpu;
mod kernels;
mod surroundings;

pub(crate) use config::{config_in_use, configured_bus_lock_detect, configured_hz, is_config};
pub(crate) use kernels::release;
pub use surroundings::{Kvm, Os};

/// What a machine says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Who made the first CPU: `GenuineIntel`, `AuthenticAMD`.
    pub cpu_vendor: Fact<String>,
    /// Family of the first CPU.
    pub cpu_family: Fact<u32>,
    /// Model of the first CPU, a number within its family.
    pub cpu_model_number: Fact<u32>,
    /// Model name of the first CPU.
    pub cpu_model: Fact<String>,
    /// Flags of the first CPU.
    pub cpu_flags: Fact<BTreeSet<String>>,
    /// Logical CPUs that are online.
    pub online_cpus: Fact<usize>,
    /// Kernel release, as `uname -r` prints it.
    pub kernel_release: Fact<String>,
    /// Kernel command line.
    pub command_line: Fact<String>,
    /// `CONFIG_HZ`, from the kernel's configuration; or, where that is not to be had, how often the coarse clock
    /// of a live machine advances.
    pub hz: Fact<Hz>,
    /// Whether `CONFIG_X86_BUS_LOCK_DETECT` is set. Kernels before 6.13 have no such option, and detect.
    pub bus_lock_detect_option: Fact<bool>,
    /// `kernel.split_lock_mitigate` (since Linux 6.2, and 6.1 with updates).
    pub split_lock_mitigate: Fact<String>,
    /// What the machine is a virtual machine of, as far as it says; absent on real hardware.
    pub hypervisor: Fact<String>,
    /// The kind of container that this is seen from.
    pub container: Fact<String>,
    /// KVM.
    pub kvm: Kvm,
    /// Whether only root may read the kernel's log (`kernel.dmesg_restrict`).
    pub dmesg_restrict: Fact<bool>,
    /// The distribution.
    pub os: Fact<Os>,
}

impl Facts {
    /// Looks at this machine.
    ///
    /// # Errors
    /// If its root directory cannot be opened.
    pub fn live() -> io::Result<Self> {
        Ok(Self::read(&Root::live()?))
    }

    /// Looks at a machine.
    #[must_use]
    pub fn read(root: &Root) -> Self {
        let trimmed = |path: &str| trimmed(root, path);
        let cpu = cpu::CpuInfo::read(root);
        let flags = cpu.flags();
        let release = trimmed("proc/sys/kernel/osrelease");
        let config = config::Config::read(root, release.known().map(String::as_str));
        Facts {
            hypervisor: surroundings::hypervisor(root, &flags),
            cpu_vendor: cpu.text("vendor_id"),
            cpu_family: cpu.number("cpu family"),
            cpu_model_number: cpu.number("model"),
            cpu_model: cpu.text("model name"),
            cpu_flags: flags,
            online_cpus: cpu.online(),
            kernel_release: release,
            command_line: trimmed("proc/cmdline"),
            hz: config.hz(root),
            bus_lock_detect_option: config.bus_lock_detect(),
            split_lock_mitigate: trimmed("proc/sys/kernel/split_lock_mitigate"),
            container: surroundings::container(root),
            kvm: Kvm::read(root),
            dmesg_restrict: surroundings::dmesg_restrict(root),
            os: Os::read(root),
        }
    }

    /// What a log says of the machine that it is from, where that is another one than `here`. Nothing else is known.
    pub(crate) fn of_log(here: &Facts, events: &Events, from: &str) -> Self {
        fn unknown<T>(from: &str) -> Fact<T> {
            let path = from.into();
            let why = "the log does not say".to_owned();
            Observed::Unreadable { path, why }.from(from)
        }
        let mut facts = Facts {
            cpu_vendor: unknown(from),
            cpu_family: unknown(from),
            cpu_model_number: unknown(from),
            cpu_model: unknown(from),
            cpu_flags: unknown(from),
            online_cpus: unknown(from),
            kernel_release: unknown(from),
            command_line: unknown(from),
            hz: unknown(from),
            bus_lock_detect_option: unknown(from),
            split_lock_mitigate: unknown(from),
            hypervisor: unknown(from),
            container: Observed::Absent.from(from),
            kvm: Kvm {
                device: unknown(from),
                bus_lock_exit: unknown(from),
            },
            dmesg_restrict: here.dmesg_restrict.clone(),
            os: unknown(from),
        };
        facts.learn_from_log(events, from);
        facts
    }

    /// Takes over from a log what is not known otherwise.
    pub(crate) fn learn_from_log(&mut self, events: &Events, from: &str) {
        let mut flags = BTreeSet::new();
        if events.uses_alignment_checks() || events.alignment_checks > 0 {
            flags.insert("split_lock_detect".to_owned());
        }
        if events.uses_bus_locks() || events.debug_exceptions > 0 {
            flags.insert("bus_lock_detect".to_owned());
        }
        let mut reported = events.reported.clone();
        if !flags.is_empty() {
            if reported.hypervisor.is_some() {
                flags.insert("hypervisor".to_owned());
            }
            reported.cpu_flags = Some(flags);
        }
        reported.kernel_release = events.release.clone();
        self.learn(&reported, from);
    }

    /// Whether the CPU is AMD's, or derived from theirs: those raise no #AC for split locks.
    #[must_use]
    pub fn is_amd(&self) -> bool {
        let vendor = self.cpu_vendor.known().map(String::as_str);
        matches!(vendor, Some("AuthenticAMD" | "HygonGenuine"))
    }

    /// Whether the first CPU has a flag; `None` if that could not be seen.
    #[must_use]
    pub fn has_cpu_flag(&self, flag: &str) -> Option<bool> {
        self.cpu_flags.known().map(|flags| flags.contains(flag))
    }
}

fn trimmed(root: &Root, path: &str) -> Fact<String> {
    let text = root.text(path).map(|text| text.trim().to_owned());
    text.from(root.origin(path))
}

#[cfg(test)]
pub(crate) mod fixture {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// A machine with these files.
    pub(crate) fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            write(root.path(), path, text.as_bytes());
        }
        root
    }

    pub(crate) fn write(root: &Path, path: &str, bytes: &[u8]) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test's own file")]
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn facts(files: &[(&str, &str)]) -> Facts {
        Facts::read(&Root::open(folder(files).path()).unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::facts;
    use super::*;
    use crate::Observed;

    #[test]
    fn a_captured_machine_is_read_below_its_root() {
        let facts = facts(&[
            (
                "proc/cpuinfo",
                "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 140\n\
                 model name\t: Some CPU: fast\nflags\t\t: fpu split_lock_detect\n\n\
                 processor\t: 1\nmodel name\t: Some CPU: fast\n",
            ),
            ("proc/sys/kernel/osrelease", "6.6.1\n"),
            ("proc/cmdline", "quiet split_lock_detect=off\n"),
            (
                "boot/config-6.6.1",
                "# CONFIG_HZ_100 is not set\nCONFIG_HZ=300\n",
            ),
        ]);
        assert_eq!(facts.cpu_vendor.value, Observed::Is("GenuineIntel".into()));
        assert_eq!(facts.cpu_family.value, Observed::Is(6));
        assert_eq!(facts.cpu_model_number.value, Observed::Is(140));
        assert_eq!(facts.cpu_model.value, Observed::Is("Some CPU: fast".into()));
        assert_eq!(facts.has_cpu_flag("split_lock_detect"), Some(true));
        assert_eq!(facts.has_cpu_flag("hypervisor"), Some(false));
        assert_eq!(facts.online_cpus.value, Observed::Is(2));
        assert_eq!(facts.kernel_release.value, Observed::Is("6.6.1".into()));
        assert_eq!(facts.kernel_release.from, "/proc/sys/kernel/osrelease");
        assert_eq!(facts.split_lock_mitigate.value, Observed::Absent);
        assert_eq!(facts.hz.value, Observed::Is(Hz::HZ_300));
        assert_eq!(facts.hz.from, "/boot/config-6.6.1");
        assert_eq!(facts.bus_lock_detect_option.value, Observed::Absent);
        assert_eq!(facts.hypervisor.value, Observed::Absent);
        assert_eq!(facts.container.value, Observed::Absent);
        assert_eq!(facts.kvm.device.value, Observed::Absent);
    }

    #[test]
    fn what_cannot_be_read_is_not_absent() {
        // A directory in the place of a file.
        let facts = facts(&[("proc/cpuinfo/x", "")]);
        assert!(
            matches!(facts.cpu_flags.value, Observed::Unreadable { .. }),
            "{facts:?}"
        );
        assert_eq!(facts.has_cpu_flag("fpu"), None);
        assert!(matches!(
            facts.hypervisor.value,
            Observed::Unreadable { .. }
        ));
    }

    #[test]
    fn a_damaged_cpuinfo_has_no_flags() {
        let facts = facts(&[("proc/cpuinfo", "\u{0}:\n::\nflags\n")]);
        assert_eq!(facts.cpu_flags.value, Observed::Absent);
    }

    #[test]
    fn this_machine_says_what_it_is() {
        let facts = Facts::live().unwrap();
        for text in [&facts.cpu_vendor, &facts.kernel_release] {
            assert!(text.known().is_some_and(|text| !text.is_empty()));
        }
        // Whatever the kernel's configuration says, the clock says something.
        assert!(facts.hz.known().is_some(), "{:?}", facts.hz);
    }
}
