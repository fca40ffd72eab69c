//! vCPUs that come and go all the time.

use std::thread;
use std::time::{Duration, Instant};

use kvm_ioctls::{VcpuExit, VcpuFd};
use kvm_preemption_timer::{Deadline, Outcome, PreemptibleVcpu};
use split_lock_assist::guard::{Ended, Run};
use split_lock_assist::guest_ram::GuestRam;
use split_lock_assist::kvm::{BreakpointSupport, KvmVcpu};
use split_lock_assist::pause::PauseGate;

use crate::emulating;
use crate::vm::{TestVm, kvm};

/// `0: lock inc qword ptr [rsi]; jmp 0`
const SPLIT_LOOP: &[u8] = &[0xf0, 0x48, 0xff, 0x06, 0xeb, 0xfa];

const THREADS: u64 = 12;
const FOR: Duration = Duration::from_secs(3);

/// From binding a vCPU to letting go of it, with some split locks emulated meanwhile.
fn one_life(fd: &mut VcpuFd, vm: &TestVm, gate: &PauseGate, support: BreakpointSupport) -> u64 {
    let mut kvm = KvmVcpu::new(fd, support).unwrap();
    let mut vcpu = PreemptibleVcpu::new(fd).unwrap();
    let kicker = vcpu.kicker();
    let mut pass = gate.pass(move || kicker.kick());
    let mut guard = emulating();
    for _ in 0..5 {
        guard.feign_stall();
        let wall = Duration::from_micros(200);
        let deadline = Deadline::after(wall);
        loop {
            let outcome = {
                let _inside = pass.enter();
                vcpu.run_until(deadline).unwrap()
            };
            match outcome {
                Outcome::Exit(VcpuExit::Debug(exit)) => {
                    let mut parts = kvm.stopped(GuestRam::new(&vm.memory), &pass);
                    guard.handle_breakpoint(exit, &mut parts).unwrap();
                }
                Outcome::Kicked => {}
                Outcome::Expired(_) => break,
                outcome => panic!("{outcome:?}"),
            }
        }
        let ended = Ended::Expired;
        let run = Run {
            wall,
            cpu: wall,
            ended,
        };
        let mut parts = kvm.stopped(GuestRam::new(&vm.memory), &pass);
        guard.after_run(&run, &mut parts).unwrap();
    }
    let statistics = guard.statistics();
    statistics.emulated_at_stalls + statistics.emulated_at_breakpoints
}

#[test]
fn vcpus_that_come_and_go_disturb_nobody() {
    let Some(kvm) = kvm() else { return };
    let support = BreakpointSupport::probe(&kvm).unwrap();
    let vm = TestVm::new(&kvm, SPLIT_LOOP);
    let gate = PauseGate::new();
    let end = Instant::now() + FOR;
    let emulated: u64 = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|id| {
                let mut fd = vm.vcpu(id, 0, 0);
                let (vm, gate) = (&vm, &gate);
                scope.spawn(move || {
                    let mut emulated = 0;
                    while Instant::now() < end {
                        emulated += one_life(&mut fd, vm, gate, support);
                    }
                    emulated
                })
            })
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join().unwrap());
        joined.sum()
    });
    assert!(emulated > 100, "{emulated}");
}
