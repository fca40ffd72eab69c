//! A VMM whose VMs live briefly: two vCPUs, of which one shuts the machine down and calls the other
//! one out with a signal that the thread blocks and KVM does not.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, mpsc};
use std::time::Duration;

use common::foreign::{self, descriptor};
use common::{HALT, SPIN, both_configs, kvm_or_skip, vm};
use kvm_ioctls::{VcpuExit, VcpuFd};
use kvm_preemption_timer::{
    Config, Deadline, Interruption, RunEnd, Signal, SignalSet, VcpuBinding,
};
use nix::unistd::gettid;

/// Whether the guest has shut the machine down, and not another vCPU.
fn run_vcpu(vcpu: &mut VcpuFd, config: Config, kick: i32, shut_down: &AtomicBool) -> bool {
    let mut binding = VcpuBinding::of_with_config(vcpu, config).unwrap();
    let mut deadline = Deadline::after(Duration::from_millis(10));
    loop {
        match binding.run_until(vcpu, deadline).unwrap() {
            RunEnd::Exit(VcpuExit::Hlt) => return true,
            RunEnd::Exit(exit) => panic!("{exit:?}"),
            RunEnd::Interrupted(Interruption::Expired(_)) => {
                deadline = Deadline::after(Duration::from_millis(10));
            }
            RunEnd::Interrupted(_) if shut_down.load(Ordering::SeqCst) => {
                foreign::consume(kick);
                return false;
            }
            RunEnd::Interrupted(_) => {}
        }
    }
}

fn live_briefly(config: Config, kick: i32, tell: bool) {
    let (_first_vm, mut first) = vm(HALT, 1).unwrap();
    let (_second_vm, mut second) = vm(SPIN, 1).unwrap();
    let (mut first, mut second) = (first.remove(0), second.remove(0));
    let (shut_down, bound) = (&AtomicBool::new(false), &Barrier::new(2));
    let (threads, thread) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            bound.wait();
            let guest_did = run_vcpu(&mut first, config, kick, shut_down);
            assert!(guest_did);
            shut_down.store(true, Ordering::SeqCst);
            foreign::send(thread.recv().unwrap(), kick);
        });
        scope.spawn(move || {
            foreign::block(kick);
            foreign::set_kvm_mask(descriptor(&second), 0);
            threads.send(gettid()).unwrap();
            bound.wait();
            let config = match tell {
                true => config.kvm_mask(SignalSet::default()),
                false => config,
            };
            let guest_did = run_vcpu(&mut second, config, kick, shut_down);
            assert!(!guest_did);
        });
    });
}

#[test]
fn machines_shut_down_and_leave_nothing_behind() {
    if kvm_or_skip().is_none() {
        return;
    }
    let [masked, immediate_exit] = both_configs();
    let kick = Signal::realtime(1).unwrap().number();
    let before = common::left_behind();
    for _ in 0..60 {
        live_briefly(masked, kick, true);
        live_briefly(immediate_exit, kick, true);
        live_briefly(immediate_exit, kick, false);
    }
    assert_eq!(common::left_behind(), before);
}
