//! The CPU that a guest sees.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

const BASIC: u32 = 1;
const TOPOLOGY: [u32; 2] = [0xb, 0x1f];
const AMD_TOPOLOGY: u32 = 0x8000_001e;
const KVM_FEATURES: u32 = 0x4000_0001;

/// CPUID 1, EBX: all but the number of the CPU.
const NOT_ITS_NUMBER: u32 = 0x00ff_ffff;
/// CPUID 1, EDX.
const LOCAL_APIC: u32 = 1 << 9;
/// CPUID 1, ECX.
const X2APIC: u32 = 1 << 21;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
/// CPUID 0x4000_0001, EAX: both kinds of kvmclock, and that it is the same on all CPUs.
const CLOCKS: u32 = 1 << 0 | 1 << 3 | 1 << 24;

/// What KVM supports, with these differences:
///
/// - That it is KVM: not every release of it says so by itself.
/// - Of KVM's own features only its clock. A guest then makes no hypercalls, which a small VMM has no
///   use for.
/// - No local APIC. One CPU needs none: its interrupts come from the two controllers and the timer that
///   every PC has, and no table has to tell the kernel about them. KVM shows it all the same unless it is
///   switched off in APIC_BASE. With one, kernels of
///   6.1 were seen without any timer after boot: an interrupt waited in the old controller, and nobody took it.
/// - The CPU is number 0. KVM says which one of the host's was asked.
pub(super) fn for_guest(supported: &CpuId) -> CpuId {
    let mut shown = supported.clone();
    shown.as_mut_slice().iter_mut().for_each(show);
    shown
}

fn show(leaf: &mut kvm_cpuid_entry2) {
    match leaf.function {
        BASIC => {
            leaf.ebx &= NOT_ITS_NUMBER;
            leaf.edx &= !LOCAL_APIC;
            leaf.ecx &= !(X2APIC | TSC_DEADLINE);
            leaf.ecx |= HYPERVISOR;
        }
        KVM_FEATURES => {
            leaf.eax &= CLOCKS;
            leaf.edx = 0;
        }
        AMD_TOPOLOGY => leaf.eax = 0,
        function if TOPOLOGY.contains(&function) => leaf.edx = 0,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_has_kvms_clock_and_nothing_to_call_kvm_for() {
        let leaf = |function| kvm_cpuid_entry2 {
            function,
            eax: u32::MAX,
            ebx: u32::MAX,
            ecx: 0,
            edx: u32::MAX,
            ..Default::default()
        };
        let supported = CpuId::from_entries(&[leaf(BASIC), leaf(KVM_FEATURES), leaf(7)]).unwrap();
        let shown = for_guest(&supported);
        let [basic, kvm, other] = shown.as_slice() else {
            panic!("{shown:?}")
        };
        assert_eq!((basic.ecx, basic.edx), (HYPERVISOR, !LOCAL_APIC));
        assert_eq!(basic.ebx, NOT_ITS_NUMBER);
        assert_eq!((kvm.eax, kvm.edx), (CLOCKS, 0));
        assert_eq!(*other, leaf(7));
    }
}
