//! Choosing between emulating split locks and waiting for the kernel, by what each has cost.
//!
//! A *trial* measures, in this order and only as far as it is needed:
//! 1. *emulating*: the time per operation, and how much of it is the guest's work;
//! 2. *letting through*: the share of time that the guest runs under the punishment;
//! 3. what a split lock costs *natively*, by stepping over breakpoints while detection is off; or,
//!    where there are none, by nudging: by runs so short that they end with the instruction at hand,
//!    however long it takes. No interrupt is taken in the middle of a split lock.

mod choice;
mod native;
mod samples;
mod trial;

use std::time::Duration;

use self::choice::{Way, better, is_better_anyhow, is_good_enough};
use self::native::NativeTrial;
use self::samples::Samples;
use self::trial::{Emulating, EmulatingTrial, Totals, nanos};
use super::config::Config;
use super::run::Run;

/// A trial may take one part in so many of all time.
const TRIAL_SHARE: f64 = 32.0;
/// After trials without a surprise the next one comes later, up to so many times.
const MAX_PATIENCE: f64 = 16.0;
/// A rate that changes by this factor is a surprise.
const SURPRISE: f64 = 2.0;
/// How long a rate is observed, and the least time between two trials.
const OBSERVATION_NS: f64 = 200e6;

/// Emulating is tried for no longer than this.
const MAX_EMULATING_NS: f64 = 100e6;
const EMPTY_RUNS: usize = 4;

/// Several of the kernel's cycles, and of ours, so that a part of one does not matter much.
const MIN_LETTING_NS: f64 = 400e6;
const LETTING_BUDGETS: f64 = 4.0;
/// A run that took more CPU time has executed something, although no register shows it.
const EMPTY_RUN_CPU: Duration = Duration::from_millis(1);
const MIN_NATIVE_NS: f64 = 200e6;
const NATIVE_BUDGETS: f64 = 8.0;

/// What is done, and what is measured meanwhile.
#[derive(Debug, Clone)]
pub(super) struct Auto {
    native_cost_ns: f64,
    way: Way,
    phase: Phase,
    /// Of this phase.
    phase_ns: f64,
    /// Of the last trial, or of this one so far.
    trial_ns: f64,
    patience: f64,
    rate: Rate,
    since_hit: SinceHit,
    /// CPU time of runs in which nothing was executed.
    empty_run_cpu: Samples,
}

#[derive(Debug, Clone)]
enum Phase {
    Settled,
    Emulating(EmulatingTrial),
    Letting(Emulating, Totals),
    Native(NativeTrial),
}

/// How the guest gets on, against what it did in the last trial.
#[derive(Debug, Clone, Default)]
struct Rate {
    /// Time per operation, or share of CPU time. None before the first trial.
    expected: Option<f64>,
    totals: Totals,
    operations: f64,
    has_surprised: bool,
}

/// What was done when a breakpoint was last hit, if nothing has come between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SinceHit {
    Unknown,
    Emulated,
    LeftAsItWas,
    SteppedOver { exits: u32 },
}

/// What to do with an instruction that is about to split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// Emulate it.
    Emulate,
    /// Let the CPU do it, stepping over the breakpoint if there is one.
    LetThrough,
    /// Nothing: the vCPU comes here again at once, which shows what that takes.
    ComeAgain,
}

impl Auto {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            native_cost_ns: nanos(config.native_cost),
            way: Way::Emulate,
            phase: Phase::Settled,
            phase_ns: 0.0,
            trial_ns: 0.0,
            patience: 1.0,
            rate: Rate::default(),
            since_hit: SinceHit::Unknown,
            empty_run_cpu: Samples::default(),
        }
    }

    /// Whether split locks are emulated at the moment.
    pub(super) fn emulates(&self) -> bool {
        match self.phase {
            Phase::Settled => self.way == Way::Emulate,
            Phase::Emulating(_) => true,
            Phase::Letting(..) | Phase::Native(_) => false,
        }
    }

    /// Whether it is of interest how long something takes.
    pub(super) fn measures(&self) -> bool {
        matches!(self.phase, Phase::Emulating(_) | Phase::Native(_))
    }

    /// Whether instructions are to be watched at the moment.
    pub(super) fn watches(&self) -> bool {
        match &self.phase {
            Phase::Native(native) => native.steps(),
            _ => self.emulates(),
        }
    }

    /// A budget that is not the usual one. `enough` is enough for the kernel, as far as anybody
    /// knows.
    pub(super) fn budget(&self, enough: Duration) -> Option<Duration> {
        match &self.phase {
            Phase::Native(native) if !native.steps() => Some(native.budget(enough)),
            _ => None,
        }
    }

    /// Every run is to be looked at, however much CPU time it had.
    pub(super) fn looks_at_all(&self) -> bool {
        matches!(&self.phase, Phase::Native(native) if !native.steps())
    }

    /// A run is over. `longest` is the longest budget that there is.
    pub(super) fn ran(&mut self, run: &Run, longest: Duration) {
        self.since_hit = SinceHit::Unknown;
        self.phase_ns += nanos(run.wall);
        match &mut self.phase {
            Phase::Settled => return self.rate.ran(run, self.way),
            Phase::Emulating(trial) => trial.totals.add(run),
            Phase::Letting(_, totals) => totals.add(run),
            Phase::Native(_) => {}
        }
        self.trial_ns += nanos(run.wall);
        self.end_phase(longest);
    }

    /// A breakpoint is hit, so long after the last one had been dealt with.
    pub(super) fn hit(&mut self, since_last: Duration) -> Plan {
        let since_hit = std::mem::replace(&mut self.since_hit, SinceHit::Unknown);
        match (&mut self.phase, since_hit) {
            (Phase::Emulating(trial), SinceHit::LeftAsItWas) => trial.went_round(since_last),
            (Phase::Emulating(trial), SinceHit::Emulated) => trial.went_on(since_last),
            (Phase::Native(native), SinceHit::SteppedOver { exits }) => {
                native.stepped(since_last, exits);
            }
            _ => {}
        }
        match &self.phase {
            Phase::Emulating(trial) if trial.wants_round_trip() => {
                self.since_hit = SinceHit::LeftAsItWas;
                Plan::ComeAgain
            }
            Phase::Native(_) => {
                self.since_hit = SinceHit::SteppedOver { exits: 0 };
                Plan::LetThrough
            }
            _ => Plan::Emulate,
        }
    }

    /// What was hit was no split lock.
    pub(super) fn missed(&mut self) {
        self.since_hit = SinceHit::Unknown;
    }

    /// There was an exit that only stepping over a breakpoint has caused.
    pub(super) fn stepped(&mut self) {
        if let SinceHit::SteppedOver { exits } = &mut self.since_hit {
            *exits += 1;
        }
    }

    /// A run has ended at an instruction that is about to split, after hardly any CPU time.
    /// `unchanged`: no register has changed; `long`: although the run was long enough for the kernel.
    pub(super) fn stalled(&mut self, run: &Run, unchanged: bool, long: bool) -> Plan {
        let unchanged = unchanged && run.cpu < EMPTY_RUN_CPU;
        if unchanged {
            self.empty_run_cpu.add(nanos(run.cpu));
            if long {
                self.give_up_waiting();
            }
        }
        let is_trial_due = self.is_trial_due();
        match &mut self.phase {
            Phase::Settled if is_trial_due => {
                self.begin_trial();
                Plan::Emulate
            }
            Phase::Settled => match self.way {
                Way::Emulate => Plan::Emulate,
                Way::LetThrough => Plan::LetThrough,
            },
            Phase::Emulating(trial) => {
                if unchanged {
                    trial.ran_empty(run);
                }
                if !trial.has_breakpoints() && self.empty_run_cpu.count() < EMPTY_RUNS {
                    Plan::ComeAgain
                } else {
                    Plan::Emulate
                }
            }
            Phase::Letting(..) | Phase::Native(_) => Plan::LetThrough,
        }
    }

    /// An instruction has been emulated, which took so long.
    pub(super) fn emulated(&mut self, by_breakpoint: bool, took: Duration) {
        let is_trial_due = self.is_trial_due();
        match &mut self.phase {
            Phase::Settled if is_trial_due => self.begin_trial(),
            Phase::Settled => self.rate.operations += 1.0,
            Phase::Emulating(trial) => {
                trial.operation(by_breakpoint);
                if by_breakpoint {
                    trial.handled(took);
                    self.since_hit = SinceHit::Emulated;
                }
            }
            Phase::Letting(..) | Phase::Native(_) => {}
        }
    }

    /// A run is over that [was to be looked at](Self::looks_at_all).
    pub(super) fn looked(&mut self, run: &Run, moved: bool, just_behind: bool, longest: Duration) {
        if let Phase::Native(native) = &mut self.phase {
            native.ran(run, moved, just_behind);
            self.end_phase(longest);
        }
    }

    /// The kernel does not let it through, and will not.
    fn give_up_waiting(&mut self) {
        let expected = match &self.phase {
            Phase::Letting(emulating, _) => emulating.per_operation,
            Phase::Native(native) => native.emulating.per_operation,
            Phase::Settled if self.way == Way::LetThrough => f64::INFINITY,
            Phase::Settled | Phase::Emulating(_) => return,
        };
        self.settle(Way::Emulate, expected);
    }

    fn is_trial_due(&self) -> bool {
        let pause = OBSERVATION_NS.max(TRIAL_SHARE * self.trial_ns);
        let patience = if self.rate.has_surprised {
            1.0
        } else {
            self.patience
        };
        self.rate.expected.is_none() || self.phase_ns >= pause * patience
    }

    fn begin_trial(&mut self) {
        self.trial_ns = 0.0;
        self.begin(Phase::Emulating(EmulatingTrial::default()));
    }

    fn begin(&mut self, phase: Phase) {
        self.phase = phase;
        self.phase_ns = 0.0;
    }

    fn end_phase(&mut self, longest: Duration) {
        let at_least = |least_ns: f64, budgets: f64| least_ns.max(budgets * nanos(longest));
        match &self.phase {
            Phase::Emulating(trial) if trial.is_complete() || self.phase_ns >= MAX_EMULATING_NS => {
                let empty_run_cpu = self.empty_run_cpu.typical().unwrap_or_default();
                let result = trial.result(empty_run_cpu);
                self.end_emulating(result);
            }
            Phase::Letting(emulating, totals)
                if self.phase_ns >= at_least(MIN_LETTING_NS, LETTING_BUDGETS) =>
            {
                let (emulating, share) = (*emulating, totals.cpu_share());
                if is_better_anyhow(&emulating, share) {
                    self.settle(Way::Emulate, emulating.per_operation);
                } else {
                    self.begin(Phase::Native(NativeTrial::new(emulating, share)));
                }
            }
            Phase::Native(native)
                if native.is_complete()
                    || self.phase_ns >= at_least(MIN_NATIVE_NS, NATIVE_BUDGETS) =>
            {
                let turn = native.turn(self.native_cost_ns);
                match better(&native.emulating, native.cpu_share, turn, self.way) {
                    Way::Emulate => self.settle(Way::Emulate, native.emulating.per_operation),
                    Way::LetThrough => self.settle(Way::LetThrough, native.cpu_share),
                }
            }
            _ => {}
        }
    }

    fn end_emulating(&mut self, result: Option<Emulating>) {
        match result {
            Some(result) if is_good_enough(&result) => {
                self.settle(Way::Emulate, result.per_operation);
            }
            Some(result) => self.begin(Phase::Letting(result, Totals::default())),
            // There was nothing to do. If there is again, that is a surprise.
            None => self.settle(Way::Emulate, f64::INFINITY),
        }
    }

    /// `expected` is the time per operation or the share of CPU time.
    fn settle(&mut self, way: Way, expected: f64) {
        let surprise = way != self.way || self.rate.expected.is_none();
        self.patience = if surprise {
            1.0
        } else {
            (2.0 * self.patience).min(MAX_PATIENCE)
        };
        self.way = way;
        self.rate = Rate {
            expected: Some(expected),
            ..Rate::default()
        };
        self.begin(Phase::Settled);
    }
}

impl Rate {
    fn ran(&mut self, run: &Run, way: Way) {
        self.totals.add(run);
        if self.totals.wall_ns < OBSERVATION_NS {
            return;
        }
        let rate = match way {
            Way::Emulate => self.totals.wall_ns / self.operations,
            Way::LetThrough => self.totals.cpu_share(),
        };
        let expected = self.expected.unwrap_or(rate);
        // Without any operation there is nothing to choose.
        let is_surprise =
            rate.is_finite() && !(1.0 / SURPRISE..=SURPRISE).contains(&(rate / expected));
        self.has_surprised |= is_surprise;
        self.totals = Totals::default();
        self.operations = 0.0;
    }
}
