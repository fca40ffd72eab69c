//! Which program a thread belongs to, from its name alone.

use serde::Serialize;

use super::text::is_decimal;

/// A program, or a kind of its threads: what the threads' names have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Program {
    /// Which one, if its name says so.
    pub kind: ProgramKind,
    /// The threads' name, with `n` in the place of their number.
    #[serde(serialize_with = "super::text::lossy")]
    pub name: Vec<u8>,
}

/// Programs whose threads can be told by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgramKind {
    /// `CPU 3/KVM`: a vCPU of QEMU.
    QemuVcpu,
    /// `CPU 3/TCG`: QEMU in the place of a CPU, so that code and addresses are its own.
    QemuTcg,
    /// `qemu-system-x86`, `kvm`: QEMU whose threads have no names of their own, vCPUs among them.
    Qemu,
    /// `EMT-3`: a vCPU of VirtualBox.
    VirtualBoxVcpu,
    /// `fc_vcpu 3`: a vCPU of Firecracker.
    FirecrackerVcpu,
    /// `vcpu3`: a vCPU of Cloud Hypervisor.
    CloudHypervisorVcpu,
    /// `crosvm_vcpu3`: a vCPU of crosvm.
    CrosvmVcpu,
    /// `vmx-vcpu-3`: a vCPU of VMware.
    VmwareVcpu,
    /// Any other.
    Other,
}

/// Whose memory an address is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Space {
    /// A guest's. (A VMM's own code also runs on its vCPU threads, but hardly ever locks what is not aligned.)
    Guest,
    /// The program's own.
    Program,
    /// The name does not tell.
    Either,
}

/// Names of vCPU threads: what is before their number and after it.
const NUMBERED: [(&[u8], &[u8], ProgramKind); 7] = [
    (b"CPU ", b"/KVM", ProgramKind::QemuVcpu),
    (b"CPU ", b"/TCG", ProgramKind::QemuTcg),
    (b"EMT-", b"", ProgramKind::VirtualBoxVcpu),
    (b"fc_vcpu ", b"", ProgramKind::FirecrackerVcpu),
    (b"vcpu", b"", ProgramKind::CloudHypervisorVcpu),
    (b"crosvm_vcpu", b"", ProgramKind::CrosvmVcpu),
    (b"vmx-vcpu-", b"", ProgramKind::VmwareVcpu),
];

/// What the kernel leaves below this address unmapped (`vm.mmap_min_addr`), but for those who may ask for it.
const LOWEST_ADDRESS: u64 = 1 << 16;

impl Program {
    /// The program that has a thread of this name.
    ///
    /// ```
    /// use split_lock_host::attribution::{Program, ProgramKind};
    ///
    /// let program = Program::of(b"CPU 12/KVM");
    /// assert_eq!((program.kind, &program.name[..]), (ProgramKind::QemuVcpu, &b"CPU n/KVM"[..]));
    /// // This number is no thread's.
    /// assert_eq!(Program::of(b"sigtrap_loop_64").name, b"sigtrap_loop_64");
    /// ```
    #[must_use]
    pub fn of(comm: &[u8]) -> Self {
        for (before, after, kind) in NUMBERED {
            let number = comm.strip_prefix(before);
            let number = number.and_then(|rest| rest.strip_suffix(after));
            if number.is_some_and(is_decimal) {
                let name = [before, b"n", after].concat();
                return Program { kind, name };
            }
        }
        let kind = match comm {
            b"ALL CPUs/TCG" => ProgramKind::QemuTcg,
            b"EMT" => ProgramKind::VirtualBoxVcpu,
            b"kvm" | b"qemu-kvm" => ProgramKind::Qemu,
            name if name.starts_with(b"qemu-system-") => ProgramKind::Qemu,
            _ => ProgramKind::Other,
        };
        let name = match kind {
            ProgramKind::Other => without_number(comm),
            _ => comm.to_owned(),
        };
        Program { kind, name }
    }

    /// Whose memory an address is in, that a thread of this program has trapped at.
    #[must_use]
    pub fn space_of(&self, address: u64) -> Space {
        let is_upper_half = address >> 63 == 1;
        match self.kind {
            // There the host's kernel is, which would have oopsed.
            _ if is_upper_half => Space::Guest,
            kind if kind.is_vcpu() => Space::Guest,
            ProgramKind::Qemu if address < LOWEST_ADDRESS => Space::Guest,
            ProgramKind::Qemu => Space::Either,
            _ => Space::Program,
        }
    }
}

impl ProgramKind {
    /// Whether such a thread runs a guest's code.
    #[must_use]
    pub fn is_vcpu(self) -> bool {
        use ProgramKind::{
            CloudHypervisorVcpu, CrosvmVcpu, FirecrackerVcpu, QemuVcpu, VirtualBoxVcpu, VmwareVcpu,
        };
        match self {
            QemuVcpu | VirtualBoxVcpu | FirecrackerVcpu | CloudHypervisorVcpu | CrosvmVcpu
            | VmwareVcpu => true,
            ProgramKind::QemuTcg | ProgramKind::Qemu | ProgramKind::Other => false,
        }
    }
}

/// `pool-1-thread-7` becomes `pool-1-thread-n`. A number after a letter, a dot or an underscore is more often
/// a part of the name.
fn without_number(comm: &[u8]) -> Vec<u8> {
    let digits = comm.iter().rev().take_while(|byte| byte.is_ascii_digit());
    let stem = &comm[..comm.len() - digits.count()];
    let is_numbered = stem.len() < comm.len()
        && matches!(stem, [.., before, b'-' | b'#' | b':' | b' '] if before.is_ascii_alphanumeric());
    match is_numbered {
        true => [stem, b"n"].concat(),
        false => comm.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn threads_are_known_by_their_names() {
        use ProgramKind::*;
        for (comm, kind, name) in [
            ("CPU 0/KVM", QemuVcpu, "CPU n/KVM"),
            ("CPU 10/TCG", QemuTcg, "CPU n/TCG"),
            ("ALL CPUs/TCG", QemuTcg, "ALL CPUs/TCG"),
            ("qemu-system-x86", Qemu, "qemu-system-x86"),
            ("qemu-kvm", Qemu, "qemu-kvm"),
            ("kvm", Qemu, "kvm"),
            ("EMT-3", VirtualBoxVcpu, "EMT-n"),
            ("EMT", VirtualBoxVcpu, "EMT"),
            ("fc_vcpu 0", FirecrackerVcpu, "fc_vcpu n"),
            ("vcpu7", CloudHypervisorVcpu, "vcpun"),
            ("crosvm_vcpu1", CrosvmVcpu, "crosvm_vcpun"),
            ("vmx-vcpu-0", VmwareVcpu, "vmx-vcpu-n"),
            ("vcpu", Other, "vcpu"),
            ("CPU x/KVM", Other, "CPU x/KVM"),
            ("EMT-", Other, "EMT-"),
            ("pool-1-thread-7", Other, "pool-1-thread-n"),
            ("worker#2", Other, "worker#n"),
            ("python3", Other, "python3"),
            ("sigtrap_loop_64", Other, "sigtrap_loop_64"),
            ("-7", Other, "-7"),
            ("7", Other, "7"),
            ("", Other, ""),
        ] {
            let program = Program::of(comm.as_bytes());
            assert_eq!(program.kind, kind, "{comm}");
            assert_eq!(program.name, name.as_bytes(), "{comm}");
        }
    }

    #[test]
    fn a_guests_address_is_told_from_a_programs() {
        let space = |comm: &str, address| Program::of(comm.as_bytes()).space_of(address);
        assert_eq!(space("CPU 0/KVM", 0x401173), Space::Guest);
        assert_eq!(space("EMT-0", 0x81b1_85bf), Space::Guest);
        assert_eq!(space("CPU 0/TCG", 0x7f00_0000_1000), Space::Program);
        assert_eq!(space("qemu-system-x86", 0x3ff2_624d), Space::Either);
        assert_eq!(space("qemu-system-x86", 0x1e3), Space::Guest);
        assert_eq!(space("vmm", 0xffff_ffff_8102_38b0), Space::Guest);
        assert_eq!(space("dosemu.bin", 0x1795), Space::Program);
    }

    proptest! {
        #[test]
        fn any_name_belongs_to_something(comm in proptest::collection::vec(any::<u8>(), 0..64)) {
            let program = Program::of(&comm);
            prop_assert!(program.name.len() <= comm.len() + 1);
        }

        #[test]
        fn numbers_do_not_tell_vcpus_apart(a: u32, b: u32) {
            for (before, after, _) in NUMBERED {
                let name = |n: u32| [before, n.to_string().as_bytes(), after].concat();
                prop_assert_eq!(Program::of(&name(a)), Program::of(&name(b)));
            }
        }
    }
}
