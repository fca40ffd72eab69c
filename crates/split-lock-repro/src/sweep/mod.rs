//! Measures guests over a range of pending timeouts: plan, runs, samples.

use kvm_ioctls::Kvm;
use split_lock_assist::guard::Stall;
use split_lock_assist::kvm::BreakpointSupport;
use split_lock_model::random::SplitMix64;
use split_lock_model::time::Nanos;

use crate::cpu::Cpu;
use crate::host::HostError;
use crate::results::{Outcome, Sample};
use crate::vm::{UnexpectedExit, VmError};

mod measure;
mod plan;
mod stop;
mod vcpu_threads;

pub use plan::{Host, LONGEST_WINDOW, Plan, PlanError, Scenario};
pub use stop::Stop;

use measure::Measurement;
pub(crate) use plan::{Runs, Step};
use vcpu_threads::VcpuThreads;

/// How a sweep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// All planned samples have been taken.
    Complete,
    /// Somebody has asked it to stop.
    Stopped,
}

/// Why a sweep cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SweepError {
    /// The plan cannot be carried out.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// There is no VM to measure.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// A vCPU cannot be bounded or run, or the emulated host ends it.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A guest did what no guest should.
    #[error("guest `{guest}`: {exit}")]
    Guest {
        /// Its name, or its file.
        guest: String,
        /// What it did.
        exit: UnexpectedExit,
    },
    /// There are no threads to run vCPUs on.
    #[error("cannot start a thread for vCPU {vcpu}: {source}; ask for fewer vCPUs")]
    Thread {
        /// The vCPU.
        vcpu: usize,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What a sweep tells while it goes on.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A step's samples, one per vCPU.
    Samples(Vec<Sample>),
    /// A guard has found a vCPU held up by an instruction that had not been seen there before.
    Stalled {
        /// The guest.
        guest: String,
        /// The vCPU.
        vcpu: u32,
        /// Where, and what is done about it.
        stall: Stall,
    },
}

/// Carries out a plan: every scenario at every timeout, as often as planned, in the plan's random
/// order. What comes of it is handed to `on_event` as it comes.
///
/// Every scenario has a VM of its own, and every vCPU a thread. A run starts from the guest's first
/// instruction and is one bounded run of the timeout's length.
///
/// # Errors
/// The first thing that goes wrong. Samples that were handed over before it are good.
///
/// ```no_run
/// use split_lock_repro::sweep::{Host, Plan, Scenario, Stop, run};
/// use split_lock_repro::guest::Level;
/// use split_lock_repro::vm::{KVM_DEVICE, open_kvm};
/// use std::time::Duration;
///
/// let guest: split_lock_repro::guest::BuiltIn = "split".parse()?;
/// let plan = Plan {
///     scenarios: vec![Scenario {
///         guests: vec![guest.into()],
///         level: Level::Cpl3,
///         host: Host::Native,
///         guard: None,
///     }],
///     timeouts: vec![Duration::from_millis(1), Duration::from_millis(2)],
///     repeats: 3,
///     warm_up_runs: 1,
///     settle: Duration::ZERO,
///     seed: 42,
/// };
/// let kvm = open_kvm(std::path::Path::new(KVM_DEVICE))?;
/// run(&kvm, &plan, &Stop::new(), &mut |event| println!("{event:?}"))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn run(
    kvm: &Kvm,
    plan: &Plan,
    stop: &Stop,
    on_event: &mut dyn FnMut(Event),
) -> Result<Finished, SweepError> {
    plan.check()?;
    let cpu = Cpu::of_this_host();
    let support = match plan.scenarios.iter().find_map(|it| it.guard.as_ref()) {
        Some(_) => BreakpointSupport::probe(kvm).map_err(HostError::from)?,
        None => BreakpointSupport::NONE,
    };
    std::thread::scope(|scope| {
        let start = |scenario| VcpuThreads::start(scope, kvm, scenario, stop, support);
        let threads = plan.scenarios.iter().map(start);
        let threads: Vec<VcpuThreads> = threads.collect::<Result<_, _>>()?;
        let mut phases = SplitMix64::new(plan.seed);
        let warm_up = plan.warm_up_steps().into_iter().map(|at| (at, false));
        for (at, counts) in warm_up.chain(plan.steps().into_iter().map(|at| (at, true))) {
            if stop.is_requested() {
                return Ok(Finished::Stopped);
            }
            std::thread::sleep(plan.settle);
            let measured =
                threads[at.scenario].run(at.timeout, Nanos(phases.below(TICK_PATTERNS.0)))?;
            if measured.iter().any(|measured| measured.was_stopped) {
                return Ok(Finished::Stopped);
            }
            let scenario = &plan.scenarios[at.scenario];
            for (vcpu, measured) in measured.iter().enumerate() {
                for &stall in &measured.new_stalls {
                    on_event(Event::Stalled {
                        guest: scenario.guests[vcpu].to_string(),
                        vcpu: vcpu as u32,
                        stall,
                    });
                }
            }
            if counts {
                on_event(Event::Samples(samples(scenario, at, cpu, &measured)));
            }
        }
        Ok(Finished::Complete)
    })
}

/// At any tick rate, whole repetitions of the pattern of ticks.
pub(crate) const TICK_PATTERNS: Nanos = Nanos::from_millis(20);

fn samples(scenario: &Scenario, at: Step, cpu: Cpu, measured: &[Measurement]) -> Vec<Sample> {
    let of_vcpu = |(vcpu, measured): (usize, &Measurement)| Sample {
        series: format!("{}{}", scenario.host.origin(cpu), scenario.condition(vcpu)),
        guest: scenario.guests[vcpu].to_string(),
        host: scenario.host.name(cpu),
        vcpu: vcpu as u32,
        timeout_ns: nanos(at.timeout),
        run: at.run,
        turns: measured.turns,
        elapsed_ns: nanos(measured.elapsed),
        cpu_ns: nanos(measured.cpu),
        exits: measured.exits,
        outcome: Outcome::Expired,
    };
    measured.iter().enumerate().map(of_vcpu).collect()
}

/// Plans allow no timeout, and so no run, that would not fit.
pub(crate) fn nanos(duration: std::time::Duration) -> u64 {
    duration.as_nanos() as u64
}
