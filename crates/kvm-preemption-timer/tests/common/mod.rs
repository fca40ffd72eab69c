//! The smallest VM that can run a few bytes of real-mode code, and the decision whether to.

#![allow(dead_code, reason = "every test file uses its own part")]

pub(crate) mod foreign;

use std::time::Duration;

use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use kvm_preemption_timer::{
    Config, Deadline, Error, Expiry, Interruption, KickReasons, Mechanism, Outcome,
    PreemptibleVcpu, RunEnd, VcpuBinding, open_kvm,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// `jmp .`
pub(crate) const SPIN: &[u8] = &[0xeb, 0xfe];
/// `inc eax; jmp` back.
pub(crate) const COUNT: &[u8] = &[0x66, 0x40, 0xeb, 0xfc];
/// `out 0x10, al; jmp` back.
pub(crate) const OUT_LOOP: &[u8] = &[0xe6, 0x10, 0xeb, 0xfc];
/// `in al, 0x10; mov bl, al; hlt`
pub(crate) const IN_ONCE: &[u8] = &[0xe4, 0x10, 0x88, 0xc3, 0xf4];
/// `mov cx, 3; mov dx, 0x10; rep outsb; jmp .` from ds:si.
pub(crate) const REP_OUT: &[u8] = &[0xb9, 3, 0, 0xba, 0x10, 0, 0xf3, 0x6e, 0xeb, 0xfe];
/// `hlt`
pub(crate) const HALT: &[u8] = &[0xf4];

pub(crate) const CODE: u64 = 0x1000;
const MEMORY_BYTES: usize = 0x10000;

/// A VM with its memory, and as many vCPUs as were asked for, all at the beginning of the code.
pub(crate) struct TestVm {
    // Before the memory that it refers to.
    _vm: VmFd,
    _memory: GuestMemoryMmap,
}

/// Says why a test of KVM is skipped, and does not let it be skipped where it must not be.
pub(crate) fn kvm_or_skip() -> Option<kvm_ioctls::Kvm> {
    match open_kvm() {
        Ok(kvm) => Some(kvm),
        Err(error)
            if std::env::var_os("SPLITLOCK_REQUIRE_KVM").is_some_and(|value| value == "1") =>
        {
            panic!("KVM is required here: {error}")
        }
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// `None`, and a printed reason, where there is no KVM.
pub(crate) fn vm(code: &[u8], vcpus: u64) -> Option<(TestVm, Vec<VcpuFd>)> {
    let vm = kvm_or_skip()?.create_vm().unwrap();
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).unwrap();
    memory.write_slice(code, GuestAddress(CODE)).unwrap();
    map_memory(&vm, &memory);
    let vcpus = (0..vcpus).map(|id| vcpu(&vm, id)).collect();
    let vm = TestVm {
        _vm: vm,
        _memory: memory,
    };
    Some((vm, vcpus))
}

pub(crate) fn one_vcpu(code: &[u8]) -> Option<(TestVm, VcpuFd)> {
    let (vm, mut vcpus) = vm(code, 1)?;
    Some((vm, vcpus.remove(0)))
}

fn vcpu(vm: &VmFd, id: u64) -> VcpuFd {
    let vcpu = vm.create_vcpu(id).unwrap();
    let mut sregs = vcpu.get_sregs().unwrap();
    (sregs.cs.base, sregs.cs.selector) = (0, 0);
    vcpu.set_sregs(&sregs).unwrap();
    restart(&vcpu);
    vcpu
}

/// Puts the vCPU back to the beginning of the code.
pub(crate) fn restart(vcpu: &VcpuFd) {
    let mut regs = vcpu.get_regs().unwrap();
    (regs.rip, regs.rflags, regs.rax) = (CODE, 2, 0);
    vcpu.set_regs(&regs).unwrap();
}

#[expect(unsafe_code, reason = "KVM takes guest memory by address")]
fn map_memory(vm: &VmFd, memory: &GuestMemoryMmap) {
    let region = kvm_bindings::kvm_userspace_memory_region {
        slot: 0,
        guest_phys_addr: 0,
        memory_size: MEMORY_BYTES as u64,
        userspace_addr: memory.get_host_address(GuestAddress(0)).unwrap() as u64,
        flags: 0,
    };
    // SAFETY: the memory is owned by the TestVm that owns the VM, and is dropped after it.
    unsafe { vm.set_user_memory_region(region) }.unwrap();
}

/// Runs a test with each mechanism, on a vCPU at the beginning of `code`.
pub(crate) fn each_mechanism(code: &[u8], test: impl Fn(Config, VcpuFd)) {
    for config in both_configs() {
        if let Some((_vm, vcpu)) = one_vcpu(code) {
            test(config, vcpu);
        }
    }
}

/// The same on two vCPUs of one VM.
pub(crate) fn each_pair(code: &[u8], test: impl Fn(Config, VcpuFd, VcpuFd)) {
    for config in both_configs() {
        if let Some((_vm, mut vcpus)) = vm(code, 2) {
            let second = vcpus.remove(1);
            test(config, vcpus.remove(0), second);
        }
    }
}

/// The same on a vCPU that is bounded already.
pub(crate) fn each_bounded(code: &[u8], test: impl Fn(PreemptibleVcpu)) {
    each_mechanism(code, |config, vcpu| {
        test(PreemptibleVcpu::with_config(vcpu, config).unwrap());
    });
}

/// The same on a vCPU that its thread is bound to, and that stays where it is.
pub(crate) fn each_bound(code: &[u8], test: impl Fn(Config, VcpuBinding, VcpuFd)) {
    each_mechanism(code, |config, vcpu| {
        let binding = VcpuBinding::of_with_config(&vcpu, config).unwrap();
        test(config, binding, vcpu);
    });
}

/// What interrupts a run of a guest that needs nothing.
#[track_caller]
pub(crate) fn interruption(
    binding: &mut VcpuBinding,
    vcpu: &mut VcpuFd,
    deadline: impl Into<Deadline>,
) -> Interruption {
    match binding.run_until(vcpu, deadline).unwrap() {
        RunEnd::Interrupted(interruption) => interruption,
        RunEnd::Exit(exit) => panic!("{exit:?}"),
    }
}

/// Runs until the deadline, whoever else interrupts that.
#[track_caller]
pub(crate) fn run_to_the_end(
    binding: &mut VcpuBinding,
    vcpu: &mut VcpuFd,
    deadline: impl Into<Deadline>,
) {
    let deadline = deadline.into();
    while !matches!(
        interruption(binding, vcpu, deadline),
        Interruption::Expired(_)
    ) {}
}

/// The reasons of the kick that ends a run.
#[track_caller]
pub(crate) fn kick_reasons(binding: &mut VcpuBinding, vcpu: &mut VcpuFd) -> KickReasons {
    match interruption(binding, vcpu, far_deadline()) {
        Interruption::Kicked(reasons) => reasons,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn both_configs() -> [Config; 2] {
    [Mechanism::MaskedSignal, Mechanism::ImmediateExit]
        .map(|mechanism| Config::new().mechanism(mechanism))
}

#[track_caller]
pub(crate) fn expired(outcome: Result<Outcome<'_>, Error>) -> Expiry {
    match outcome.unwrap() {
        Outcome::Expired(expiry) => expiry,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(crate) fn kicked(outcome: Result<Outcome<'_>, Error>) {
    let outcome = outcome.unwrap();
    assert!(matches!(outcome, Outcome::Kicked), "{outcome:?}");
}

#[track_caller]
pub(crate) fn exited(outcome: Result<Outcome<'_>, Error>) -> VcpuExit<'_> {
    match outcome.unwrap() {
        Outcome::Exit(exit) => exit,
        other => panic!("{other:?}"),
    }
}

/// Much longer than anything takes; what lasts until then is lost.
pub(crate) const GIVE_UP: Duration = Duration::from_secs(120);

pub(crate) fn far_deadline() -> Deadline {
    Deadline::after(GIVE_UP)
}

/// The signals that the calling thread blocks, as the kernel says.
pub(crate) fn blocked_signals() -> String {
    status_field("SigBlk:")
}

/// The signals that this process handles, as the kernel says.
pub(crate) fn caught_signals() -> String {
    status_field("SigCgt:")
}

/// What a binding could leave behind in its process: descriptors, timers and handlers.
pub(crate) fn left_behind() -> (usize, String, String) {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    // Missing from kernels that cannot checkpoint.
    let timers = std::fs::read_to_string("/proc/self/timers").unwrap_or_default();
    (descriptors, timers, caught_signals())
}

/// The signals that are pending for the calling thread, as the kernel says.
pub(crate) fn pending_signals() -> String {
    status_field("SigPnd:")
}

fn status_field(name: &str) -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line[name.len()..].trim().to_owned()
}
