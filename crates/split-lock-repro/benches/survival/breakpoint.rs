//! A breakpoint without a guard.

use kvm_bindings::{KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_USE_HW_BP, kvm_guest_debug};
use kvm_ioctls::VcpuFd;
use split_lock_assist::breakpoint_slots::dr7;

/// The vCPU stops whenever it is about to execute what is there.
pub(crate) fn set_breakpoint(vcpu: &VcpuFd, address: u64) {
    let mut debug = kvm_guest_debug {
        control: KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP,
        ..Default::default()
    };
    debug.arch.debugreg[0] = address;
    debug.arch.debugreg[7] = dr7(&[Some(address), None, None, None]);
    vcpu.set_guest_debug(&debug).expect("every KVM has it");
}
