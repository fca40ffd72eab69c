//! Runs a guest for a while.

use std::time::Duration;

use kvm_ioctls::VcpuFd;
use kvm_preemption_timer::{Deadline, Outcome, PreemptibleVcpu};
use split_lock_repro::vm::ExitCause;

/// Runs the vCPU until `duration` has passed, whatever it does in between to the debug port, or
/// until it exits by itself. Returns how often it wrote to that port, and the exit.
pub(crate) fn run_for(vcpu: &mut VcpuFd, duration: Duration) -> (u64, Option<ExitCause>) {
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
