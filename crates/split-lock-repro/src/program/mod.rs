//! A program that splits a lock in a loop while a timer of its own sends it signals, and how far it gets.
//!
//! Each run is a process of its own with one thread. On a host as it is the kernel treats its split locks. On an emulated
//! host the process sets EFLAGS.AC, so that its split lock, which is misaligned, raises #AC, and SIGBUS arrives; the handler
//! then does to the thread what [`split_lock_model::handler`] says, and clears the flag for as long as detection is off.
//! The timer's signal is real: it ends the sleep because it is pending.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use split_lock_model::random::SplitMix64;
use split_lock_model::sim::TimerClock;
use split_lock_model::time::Nanos;

use crate::cpu::Cpu;
use crate::results::{Outcome, Sample};
use crate::sweep::{Finished, Host, PlanError, Runs, Stop, TICK_PATTERNS, nanos};

mod child;
mod process;

use process::{Process, Ran};

/// A timer that a program may set, which sends it a signal each time its period has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// setitimer(ITIMER_REAL).
    ItimerReal,
    /// timer_create(CLOCK_MONOTONIC).
    Monotonic,
    /// timer_create(CLOCK_PROCESS_CPUTIME_ID).
    ProcessCpu,
    /// timer_create(CLOCK_THREAD_CPUTIME_ID).
    ThreadCpu,
    /// None: what the program does undisturbed.
    None,
}

impl Timer {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ItimerReal,
        Self::Monotonic,
        Self::ProcessCpu,
        Self::ThreadCpu,
        Self::None,
    ];

    /// What it counts, in the model's terms; `None` if there is no timer.
    #[must_use]
    pub const fn clock(self) -> Option<TimerClock> {
        match self {
            Self::ItimerReal | Self::Monotonic => Some(TimerClock::Wall),
            Self::ProcessCpu | Self::ThreadCpu => Some(TimerClock::Cpu),
            Self::None => None,
        }
    }

    /// What results call a program with this timer.
    #[must_use]
    pub fn guest_name(self) -> String {
        format!("{GUEST_PREFIX}{self}")
    }
}

const GUEST_PREFIX: &str = "program:";

/// Whether what results call so is a program with a timer, and no guest.
#[must_use]
pub fn is_program(guest: &str) -> bool {
    guest.starts_with(GUEST_PREFIX)
}

impl fmt::Display for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ItimerReal => "itimer-real",
            Self::Monotonic => "monotonic",
            Self::ProcessCpu => "process-cpu",
            Self::ThreadCpu => "thread-cpu",
            Self::None => "none",
        })
    }
}

/// A timer that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no timer `{0}`: use itimer-real, monotonic, process-cpu, thread-cpu or none")]
pub struct UnknownTimer(String);

impl FromStr for Timer {
    type Err = UnknownTimer;

    fn from_str(text: &str) -> Result<Self, UnknownTimer> {
        let named = Self::ALL
            .into_iter()
            .find(|timer| timer.to_string() == text);
        named.ok_or_else(|| UnknownTimer(text.into()))
    }
}

/// Runs of a program that are to be made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The timers, each measured by itself.
    pub timers: Vec<Timer>,
    /// Their periods.
    pub periods: Vec<Duration>,
    /// How long each run is.
    pub length: Duration,
    /// Runs of each timer at each period.
    pub repeats: u32,
    /// What the split locks meet.
    pub host: Host,
    /// A pause before each run; see [`crate::sweep::Plan::settle`].
    pub settle: Duration,
    /// Decides on the order of the runs, and where they fall between ticks.
    pub seed: u64,
}

/// Why a program cannot be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The plan cannot be carried out.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// No signal would come.
    #[error(
        "a timer of {period:?} does not expire within a run of {length:?}: make the runs longer"
    )]
    ShortRun {
        /// The timer's period.
        period: Duration,
        /// The run's length.
        length: Duration,
    },
    /// The timer would be set to another period, or to none.
    #[error(
        "setitimer counts whole microseconds: {period:?} is no period for itimer-real; use a multiple of 1us, or another timer"
    )]
    PartOfMicrosecond {
        /// The timer's period.
        period: Duration,
    },
    /// There is no process to measure.
    #[error("cannot start a process that splits locks: {0}")]
    Start(io::Error),
    /// It runs, but its end is not to be seen.
    #[error("cannot wait for the process that splits locks: {0}; run it again")]
    Wait(io::Error),
    /// The process could not set its timers or wait as the kernel would.
    #[error("the process that splits locks could not go on: {0}")]
    Child(String),
    /// The kernel ends the program.
    #[error(
        "kernel {kernel} ends the program with SIGBUS at its first split lock: choose one in mode warn"
    )]
    Sigbus {
        /// The kernel profile, or `of this host`.
        kernel: String,
    },
    /// The CPU, or what emulates it, does not check alignment.
    #[error(
        "no split lock trapped: this machine raises no #AC where EFLAGS.AC is set, so no kernel can be emulated for programs; \
         leave out the kernel, or use the model"
    )]
    NoTrap,
    /// Something else ended it.
    #[error(
        "the process that splits locks ended before its time ({0}): run it again, and see the kernel's log"
    )]
    Ended(String),
}

impl Plan {
    /// Whether the plan can be carried out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), ProgramError> {
        if self.timers.is_empty() {
            return Err(PlanError::Empty("timers").into());
        }
        self.runs().check(self.settle)?;
        let lengths = Runs {
            timeouts: &[self.length],
            ..self.runs()
        };
        lengths.check(self.settle)?;
        let has_timer = self.timers.iter().any(|timer| timer.clock().is_some());
        let longest = self.periods.iter().max().filter(|_| has_timer);
        if let Some(&period) = longest.filter(|&&period| period > self.length) {
            let length = self.length;
            return Err(ProgramError::ShortRun { period, length });
        }
        let is_whole = |period: &Duration| period.subsec_nanos().is_multiple_of(1000);
        let with_part = self.periods.iter().find(|period| !is_whole(period));
        if let Some(&period) = with_part.filter(|_| self.timers.contains(&Timer::ItimerReal)) {
            return Err(ProgramError::PartOfMicrosecond { period });
        }
        let each = self.timers.len() as u128 * self.periods.len() as u128;
        Ok(Runs::check_samples(each * u128::from(self.repeats))?)
    }

    /// How many samples it will give.
    #[must_use]
    pub fn samples(&self) -> u64 {
        (self.timers.len() as u64)
            .saturating_mul(self.periods.len() as u64)
            .saturating_mul(self.repeats.into())
    }

    fn runs(&self) -> Runs<'_> {
        Runs {
            scenarios: self.timers.len(),
            timeouts: &self.periods,
            repeats: self.repeats,
        }
    }
}

/// Carries out a plan: every timer at every period, as often as planned, in the plan's random order. Each sample is handed
/// over as it comes: its `timeout_ns` is the timer's period, and its `exits` are the signals that the program handled.
///
/// # Errors
/// The first thing that goes wrong. Samples that were handed over before it are good.
///
/// ```
/// use std::time::Duration;
/// use split_lock_repro::program::{Plan, Timer, run};
/// use split_lock_repro::sweep::{Host, Stop};
///
/// let plan = Plan {
///     timers: vec![Timer::ItimerReal],
///     periods: vec![Duration::from_millis(1)],
///     length: Duration::from_millis(50),
///     repeats: 1,
///     host: Host::Emulated("6.12,hz=250".parse()?),
///     settle: Duration::ZERO,
///     seed: 42,
/// };
/// run(&plan, &Stop::new(), &mut |sample| assert_eq!(sample.turns, 0))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn run(
    plan: &Plan,
    stop: &Stop,
    on_sample: &mut dyn FnMut(Sample),
) -> Result<Finished, ProgramError> {
    plan.check()?;
    let cpu = Cpu::of_this_host();
    let mut phases = SplitMix64::new(plan.seed);
    for at in plan.runs().shuffled(plan.seed) {
        if stop.is_requested() {
            return Ok(Finished::Stopped);
        }
        std::thread::sleep(plan.settle);
        let timer = plan.timers[at.scenario];
        let phase = Nanos(phases.below(TICK_PATTERNS.0));
        let process = Process::start(timer, at.timeout, plan.length, &plan.host, phase)?;
        let Some(Ran {
            turns,
            elapsed_ns,
            cpu_ns,
            signals,
        }) = process.wait(stop)?
        else {
            return Ok(Finished::Stopped);
        };
        on_sample(Sample {
            series: plan.host.origin(cpu).to_string(),
            guest: timer.guest_name(),
            host: plan.host.name(cpu),
            vcpu: 0,
            timeout_ns: nanos(at.timeout),
            run: at.run,
            turns,
            elapsed_ns,
            cpu_ns,
            exits: signals,
            outcome: Outcome::Expired,
        });
    }
    Ok(Finished::Complete)
}
