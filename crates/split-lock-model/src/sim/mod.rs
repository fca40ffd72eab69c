//! A machine of CPUs, threads and timers around the handler, on a virtual clock.
//!
//! The simulation is exact and deterministic: integer nanoseconds, one seed, events in a fixed
//! order. It always ends, at its horizon or where its state repeats. See `docs/model.md` for what
//! is assumed about the machine.

mod account;
mod calendar;
mod cycle;
mod engine;
mod machine;
mod program;
mod report;
mod scenario;
mod scheduler;
mod thread;
mod timeline;
mod worker;

pub use machine::Observer;
pub use program::{Program, ProgramError};
pub use report::{
    Cycle, CycleShare, End, Report, Run, TaskReport, TimeByCause, TrapCounts, UnusedWindows,
    Verdict, Windows,
};
pub use scenario::{Budget, Costs, Scenario, ScenarioError, TaskKind, TaskSpec, TimerClock, Until};
pub use timeline::{Span, SpanKind, Timeline, Track};
pub use worker::WorkerWakeup;

use crate::handler::Rules;
use crate::kernel::Profile;

/// Runs a scenario on a kernel.
///
/// ```
/// use split_lock_model::sim::{Budget, Program, Scenario, TaskSpec, simulate};
/// use split_lock_model::time::Nanos;
///
/// let kernel = "6.6,hz=1000".parse()?;
/// let guest = Program::split_loop(Nanos(500))?;
/// let vcpu = |ms| TaskSpec::vcpu(guest, Budget::Relative(Nanos::from_millis(ms)));
/// assert!(simulate(&kernel, &Scenario::single(vcpu(1)))?.verdict().is_livelock());
/// assert!(!simulate(&kernel, &Scenario::single(vcpu(15)))?.verdict().is_livelock());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ScenarioError`], which names the field that is wrong.
pub fn simulate(kernel: &Profile, scenario: &Scenario) -> Result<Report, ScenarioError> {
    simulate_observed(kernel, Rules::UPSTREAM, scenario, &mut |_, _| ())
}

/// Runs a scenario on a kernel with other rules. After each call of the handler, the observer sees it
/// and its answer; [`Observer`] says when there is none.
///
/// # Errors
/// [`ScenarioError`], which names the field that is wrong.
pub fn simulate_observed(
    kernel: &Profile,
    rules: Rules,
    scenario: &Scenario,
    observer: Observer<'_>,
) -> Result<Report, ScenarioError> {
    // Before anything is built to a size that may be absurd.
    scenario.check()?;
    Ok(machine::Machine::new(kernel, rules, scenario, observer).run())
}
