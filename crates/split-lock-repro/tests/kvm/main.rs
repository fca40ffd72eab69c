//! The guests on real KVM. Without KVM these tests say why they do nothing; where it must be there,
//! set `SPLITLOCK_REQUIRE_KVM=1` and they fail instead.

use std::time::Duration;

use kvm_ioctls::{Kvm, VcpuFd};
use kvm_preemption_timer::{Deadline, Outcome, PreemptibleVcpu};
use split_lock_repro::guest::{Guest, Level};
use split_lock_repro::vm::{ExitCause, UnexpectedExit, Vcpu, Vm};

use common::{LEVELS, detects_split_locks, file_guest, guest, kvm};

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/runs.rs"]
mod runs;

mod alignment;
mod built_in;
mod contend;
mod exits;
mod files;
mod neighbours;
mod sparse;
mod sweep;
mod two_tasks;

/// One vCPU in a VM of its own.
fn vcpu(kvm: &Kvm, guest: &Guest, level: Level) -> Vcpu {
    let mut vm = Vm::new(kvm).unwrap();
    vm.add_vcpu(guest, level).unwrap()
}

/// The turns that a guest makes from its start in `milliseconds`, or what went wrong.
fn turns_in(vcpu: &mut Vcpu, milliseconds: u64) -> Result<u64, UnexpectedExit> {
    vcpu.slot.reset(&vcpu.fd).unwrap();
    match run_for(&mut vcpu.fd, Duration::from_millis(milliseconds)) {
        (_, None) => Ok(vcpu.slot.turns(&vcpu.fd).unwrap()),
        (_, Some(cause)) => Err(unexpected(vcpu, cause)),
    }
}

fn unexpected(vcpu: &mut Vcpu, cause: ExitCause) -> UnexpectedExit {
    vcpu.slot.unexpected_exit(&mut vcpu.fd, cause)
}

/// Runs the vCPU until `duration` has passed, whatever it does in between to the debug port, or
/// until it exits by itself. Returns how often it wrote to that port, and the exit.
fn run_for(vcpu: &mut VcpuFd, duration: Duration) -> (u64, Option<ExitCause>) {
    let mut vcpu = PreemptibleVcpu::new(vcpu).unwrap();
    let deadline = Deadline::after(duration);
    let mut debug_writes = 0;
    loop {
        match vcpu.run_until(deadline).unwrap() {
            Outcome::Exit(exit) => match ExitCause::from(&exit) {
                cause if cause.is_debug_output() => debug_writes += 1,
                cause => return (debug_writes, Some(cause)),
            },
            Outcome::Expired(_) | Outcome::Kicked => return (debug_writes, None),
        }
    }
}
