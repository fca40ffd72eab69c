//! One bounded run of one vCPU, with everything that is measured about it.

use std::time::Duration;

use kvm_preemption_timer::{MonotonicTime, ThreadCpuTime};

use split_lock_assist::guard::Stall;

use super::{Stop, SweepError};
use crate::host::{Ended, GuardedVcpu};

/// What a run came to.
#[derive(Debug, Clone)]
pub(super) struct Measurement {
    pub(super) turns: u64,
    pub(super) elapsed: Duration,
    pub(super) cpu: Duration,
    pub(super) exits: u64,
    /// Before its time, by whoever wants no more of it.
    pub(super) was_stopped: bool,
    /// Where the guard found the vCPU held up, for the first time.
    pub(super) new_stalls: Vec<Stall>,
}

/// Runs the guest from where it is for `timeout`. Only the run itself is timed; reading the clocks
/// is inside the CPU time and outside the elapsed time.
///
/// A kick is the end only if one of `stops` says so: vCPUs whose guards pause each other kick as well.
pub(super) fn measure(
    vcpu: &mut GuardedVcpu<'_>,
    guest: &str,
    timeout: Duration,
    stops: &[Stop],
) -> Result<Measurement, SweepError> {
    let cpu_before = ThreadCpuTime::now();
    let start = MonotonicTime::now();
    let deadline = start + timeout;
    let mut exits = 0;
    let was_stopped = loop {
        let cause = match vcpu.run_until(deadline)? {
            Ended::Expired => break false,
            Ended::Kicked if stops.iter().any(Stop::is_requested) => break true,
            Ended::Kicked => continue,
            Ended::Exit(cause) => cause,
        };
        if !cause.is_debug_output() {
            return Err(SweepError::Guest {
                guest: guest.into(),
                exit: vcpu.vcpu_mut().unexpected_exit(cause),
            });
        }
        exits += 1;
    };
    let elapsed = MonotonicTime::now().saturating_since(start);
    let cpu = ThreadCpuTime::now().as_nanos() - cpu_before.as_nanos();
    Ok(Measurement {
        turns: vcpu.vcpu().slot().turns(vcpu.vcpu().fd())?,
        elapsed,
        cpu: Duration::from_nanos(cpu),
        exits,
        was_stopped,
        new_stalls: vcpu.take_new_stalls(),
    })
}
