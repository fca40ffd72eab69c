//! How fast guests work on this machine, found by letting one work.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use kvm_bindings::kvm_regs;
use kvm_ioctls::VcpuFd;
use kvm_preemption_timer::{Deadline, Outcome, PreemptibleVcpu, ThreadCpuTime};

use super::{ExitCause, VmError};
use crate::guest::{Guest, Level, WORK_LEFT, WorkRate};

const RUNS: usize = 5;
const RUN: Duration = Duration::from_millis(20);

/// For each level, once found. The CPU stays the same for as long as the process lives.
static RATES: [Mutex<Option<WorkRate>>; 2] = [const { Mutex::new(None) }; 2];

fn known(level: Level) -> MutexGuard<'static, Option<WorkRate>> {
    let rate = RATES[level as usize].lock();
    rate.unwrap_or_else(PoisonError::into_inner)
}

/// How fast guests at `level` work, if one that needs to know has been added to a VM of this process.
#[must_use]
pub fn work_rate(level: Level) -> Option<WorkRate> {
    *known(level)
}

/// How fast guests at `level` work. The first time it is found by running `guest`, which is loaded on
/// this vCPU, about 100 ms long, and who asks meanwhile waits; afterwards it is known.
pub(super) fn calibrate(
    vcpu: &mut VcpuFd,
    guest: &Guest,
    level: Level,
) -> Result<WorkRate, VmError> {
    let mut known = known(level);
    if let Some(rate) = *known {
        return Ok(rate);
    }
    let endless = guest.start_registers(|| Ok::<_, VmError>(WorkRate::ENDLESS))?;
    // The caller's thread may have bound a vCPU already, and a thread can bind but one.
    let best = thread::scope(|scope| scope.spawn(|| best_of_all_runs(vcpu, &endless)).join());
    let best = best.expect("nothing in there panics");
    let rate = best.map_err(|why| VmError::Calibration { level, why })?;
    *known = Some(rate);
    Ok(rate)
}

/// The best, because whatever else the CPU does can only slow a run down.
fn best_of_all_runs(vcpu: &mut VcpuFd, endless: &kvm_regs) -> Result<WorkRate, String> {
    let mut vcpu = PreemptibleVcpu::new(vcpu).map_err(|error| error.to_string())?;
    let mut best = None;
    for _ in 0..RUNS {
        best = best.max(one_run(&mut vcpu, endless)?);
    }
    best.ok_or_else(|| "its work loop does not turn".into())
}

/// By the thread's CPU time: whoever else wants the CPU is not the guest's fault.
fn one_run(
    vcpu: &mut PreemptibleVcpu<&mut VcpuFd>,
    endless: &kvm_regs,
) -> Result<Option<WorkRate>, String> {
    let kvm_said = |error: kvm_ioctls::Error| error.to_string();
    vcpu.vcpu().set_regs(endless).map_err(kvm_said)?;
    let start = ThreadCpuTime::now();
    match vcpu.run_until(Deadline::ThreadCpu(start + RUN)) {
        Ok(Outcome::Exit(exit)) => return Err(format!("it {}", ExitCause::from(&exit))),
        Ok(Outcome::Expired(_) | Outcome::Kicked) => {}
        Err(error) => return Err(error.to_string()),
    }
    let time = Duration::from_nanos(ThreadCpuTime::now().as_nanos() - start.as_nanos());
    let now = vcpu.vcpu().get_regs().map_err(kvm_said)?;
    let turns = WORK_LEFT.read(endless) - WORK_LEFT.read(&now);
    Ok(WorkRate::from_measured(turns, time))
}
