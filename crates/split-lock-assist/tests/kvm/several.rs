//! Two vCPUs that split one word at the same time.

use std::thread;

use kvm_ioctls::{VcpuExit, VcpuFd};
use kvm_preemption_timer::{Deadline, Outcome, PreemptibleVcpu};
use split_lock_assist::guard::Response;
use split_lock_assist::guest_ram::GuestRam;
use split_lock_assist::kvm::{BreakpointSupport, KvmVcpu};
use split_lock_assist::pause::PauseGate;

use crate::vm::{SPLIT, SPLIT_PAGE, TestVm, kvm};
use crate::{DONE_PORT, INCREMENT, emulating, response, stall, supported_levels};

/// Adds RAX, and sums up in RBX what was there before.
/// ```text
/// 0: lock xadd qword ptr [rsi],rax
///    add rbx,rax
///    mov eax,1
///    inc rcx
///    dec rdx
///    jnz 0
///    out 0x10,al
/// ```
const EXCHANGE_ADD: &[u8] = &[
    0xf0, 0x48, 0x0f, 0xc1, 0x06, 0x48, 0x01, 0xc3, 0xb8, 0x01, 0x00, 0x00, 0x00, 0x48, 0xff, 0xc1,
    0x48, 0xff, 0xca, 0x75, 0xeb, 0xe6, 0x10,
];

/// What a VMM's vCPU thread does, until the guest is done. Returns how often it was kicked.
fn run(vcpu: VcpuFd, vm: &TestVm, gate: &PauseGate, support: BreakpointSupport) -> (VcpuFd, u64) {
    let mut kvm = KvmVcpu::new(&vcpu, support)
        .unwrap()
        .returning_registers_with_next_run();
    let mut vcpu = PreemptibleVcpu::new(vcpu).unwrap();
    let kicker = vcpu.kicker();
    let mut pass = gate.pass(move || kicker.kick());
    let mut guard = emulating();
    let progress = stall(&mut guard, &mut kvm, vm, &pass);
    assert_eq!(response(&progress), Response::Emulated { watched: true });

    let mut kicked = 0;
    loop {
        let outcome = {
            let _inside = pass.enter();
            vcpu.run_until(Deadline::Never).unwrap()
        };
        match outcome {
            Outcome::Kicked => kicked += 1,
            Outcome::Exit(VcpuExit::Debug(debug)) => {
                let mut parts = kvm.stopped(GuestRam::new(&vm.memory), &pass);
                guard.handle_breakpoint(debug, &mut parts).unwrap();
            }
            Outcome::Exit(VcpuExit::IoOut(DONE_PORT, _)) => return (vcpu.into_inner(), kicked),
            outcome => panic!("{outcome:?}"),
        }
    }
}

/// Two vCPUs on their threads, until both are done with their turns.
fn play(vm: &TestVm, support: BreakpointSupport, cpl: u8, operand: u64, turns: u64) -> [VcpuFd; 2] {
    let gate = PauseGate::new();
    let vcpus = [0, 1].map(|id| {
        let vcpu = vm.vcpu(id, cpl, turns);
        let mut registers = vcpu.get_regs().unwrap();
        (registers.rax, registers.rsi) = (1, operand);
        vcpu.set_regs(&registers).unwrap();
        vcpu
    });
    thread::scope(|scope| {
        let threads = vcpus.map(|vcpu| scope.spawn(|| run(vcpu, vm, &gate, support)));
        threads.map(|thread| {
            let (vcpu, kicked) = thread.join().unwrap();
            assert!(kicked > 0, "they have never met");
            vcpu
        })
    })
}

#[test]
fn two_vcpus_that_count_in_one_word_lose_nothing() {
    const TURNS: u64 = 10_000;
    let Some(kvm) = kvm() else { return };
    let (support, levels) = supported_levels(&kvm);
    for cpl in levels {
        let vm = TestVm::new(&kvm, INCREMENT);
        let vcpus = play(&vm, support, cpl, SPLIT_PAGE, TURNS);
        assert_eq!(vm.word(SPLIT_PAGE), 2 * TURNS);
        assert!(
            vcpus
                .iter()
                .all(|vcpu| vcpu.get_regs().unwrap().rcx == TURNS)
        );
    }
}

#[test]
fn two_vcpus_that_exchange_in_one_word_see_every_value_once() {
    /// A million operations together.
    const TURNS: u64 = 500_000;
    let Some(kvm) = kvm() else { return };
    let (support, levels) = supported_levels(&kvm);
    for cpl in levels {
        let vm = TestVm::new(&kvm, EXCHANGE_ADD);
        let vcpus = play(&vm, support, cpl, SPLIT, TURNS);
        let all = 2 * TURNS;
        assert_eq!(vm.word(SPLIT), all);
        let seen: u64 = vcpus.iter().map(|vcpu| vcpu.get_regs().unwrap().rbx).sum();
        assert_eq!(seen, all * (all - 1) / 2);
    }
}
