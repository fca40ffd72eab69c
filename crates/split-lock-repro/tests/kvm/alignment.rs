//! Misaligned accesses become exits, before they happen and as often as they are tried.

use std::time::Duration;

use kvm_bindings::kvm_regs;
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use kvm_preemption_timer::{Deadline, Outcome, PreemptibleVcpu};
use split_lock_repro::vm::{ALIGNMENT_CHECK_PORT, STEPPED_PORT, Vcpu, VcpuSlot, Vm};

use crate::{guest, kvm};

const AC: u64 = 1 << 18;
const TF: u64 = 1 << 8;
/// Set by the CPU in the flags that a fault pushes.
const RF: u64 = 1 << 16;

fn checking(kvm: &Kvm, name: &str) -> Vcpu {
    let mut vm = Vm::new(kvm).unwrap();
    vm.add_vcpu_that_checks_alignment(&guest(name)).unwrap()
}

/// The port that the guest writes to, however busy this machine is.
fn port(vcpu: &mut PreemptibleVcpu<&mut VcpuFd>) -> Option<u16> {
    port_within(vcpu, Duration::from_secs(10))
}

/// Whether it runs for a while without that.
fn runs_on(vcpu: &mut PreemptibleVcpu<&mut VcpuFd>) -> bool {
    port_within(vcpu, Duration::from_millis(20)).is_none()
}

/// Whether it gets past its instruction without that; on a busy machine it may take some runs.
fn gets_on(vcpu: &mut PreemptibleVcpu<&mut VcpuFd>, slot: &VcpuSlot) -> bool {
    (0..100).any(|_| {
        assert!(runs_on(vcpu));
        slot.turns(vcpu.vcpu()).unwrap() > 0
    })
}

fn port_within(vcpu: &mut PreemptibleVcpu<&mut VcpuFd>, time: Duration) -> Option<u16> {
    let port = match vcpu.run_until(Deadline::after(time)).unwrap() {
        Outcome::Exit(VcpuExit::IoOut(port, _)) => Some(port),
        Outcome::Expired(_) => None,
        other => panic!("{other:?}"),
    };
    assert!(vcpu.complete_io().unwrap().is_none());
    port
}

fn change_flags(slot: &VcpuSlot, fd: &VcpuFd, set: u64, clear: u64) -> kvm_regs {
    let mut registers = slot.guest_registers(fd).unwrap();
    registers.rflags = (registers.rflags | set) & !clear;
    slot.set_guest_registers(fd, &registers).unwrap();
    registers
}

#[test]
fn a_split_lock_traps_before_it_happens_again_and_again_until_it_may() {
    let Some(kvm) = kvm() else { return };
    let Vcpu { mut fd, slot } = checking(&kvm, "split");
    let mut vcpu = PreemptibleVcpu::new(&mut fd).unwrap();
    let start = change_flags(&slot, vcpu.vcpu(), AC, 0);
    for _ in 0..3 {
        assert_eq!(port(&mut vcpu), Some(ALIGNMENT_CHECK_PORT));
        let mut trapped = slot.guest_registers(vcpu.vcpu()).unwrap();
        trapped.rflags &= !RF;
        assert_eq!(trapped, start);
    }
    change_flags(&slot, vcpu.vcpu(), 0, AC);
    assert!(gets_on(&mut vcpu, &slot));

    change_flags(&slot, vcpu.vcpu(), AC, 0);
    assert_eq!(port(&mut vcpu), Some(ALIGNMENT_CHECK_PORT));
    let trapped = slot.guest_registers(vcpu.vcpu()).unwrap();
    assert_eq!((trapped.rip, trapped.rsp), (start.rip, start.rsp));
    slot.reset(vcpu.vcpu()).unwrap();
    assert!(runs_on(&mut vcpu), "it begins with AC clear");
}

#[test]
fn one_misaligned_instruction_can_be_let_through() {
    let Some(kvm) = kvm() else { return };
    let Vcpu { mut fd, slot } = checking(&kvm, "split@12");
    let mut vcpu = PreemptibleVcpu::new(&mut fd).unwrap();
    change_flags(&slot, vcpu.vcpu(), AC, 0);
    for turn in 0..3 {
        assert_eq!(port(&mut vcpu), Some(ALIGNMENT_CHECK_PORT));
        assert_eq!(slot.turns(vcpu.vcpu()).unwrap(), turn);
        let before = change_flags(&slot, vcpu.vcpu(), TF, AC);
        assert_eq!(port(&mut vcpu), Some(STEPPED_PORT));
        let after = change_flags(&slot, vcpu.vcpu(), AC, TF);
        assert!(after.rip > before.rip);
    }
}

#[test]
fn what_is_aligned_is_not_disturbed() {
    let Some(kvm) = kvm() else { return };
    let Vcpu { mut fd, slot } = checking(&kvm, "aligned");
    let mut vcpu = PreemptibleVcpu::new(&mut fd).unwrap();
    change_flags(&slot, vcpu.vcpu(), AC, 0);
    assert!(gets_on(&mut vcpu, &slot));
}
