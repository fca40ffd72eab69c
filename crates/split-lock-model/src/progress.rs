//! Turns that a guest completes within a pending timeout, and a program beside its interval timer, for a kernel, from the
//! model.

use crate::kernel::Profile;
use crate::random::SplitMix64;
use crate::sim::{
    Budget, Costs, Program, ProgramError, Report, Run, Scenario, ScenarioError, TaskSpec,
    TimerClock, Until, simulate,
};
use crate::time::Nanos;

/// Which runs to simulate, of which guest. Each is on a machine that has long been quiet: detection
/// is on when it begins.
///
/// ```
/// use split_lock_model::kernel::{Mode, Profile};
/// use split_lock_model::progress::ProgressPlan;
/// use split_lock_model::time::Nanos;
///
/// let plan = ProgressPlan::for_guest(Nanos(500))?;
/// let kernel: Profile = "6.6,hz=1000".parse()?;
/// let turns = |kernel, ms| -> Result<_, Box<dyn std::error::Error>> {
///     let runs = plan.runs(kernel)?.into_iter();
///     Ok(runs.filter(|run| run.timeout == Nanos::from_millis(ms)).map(|run| run.run.turns).max())
/// };
/// assert_eq!(turns(&kernel, 5)?, Some(0));
/// assert_eq!(turns(&kernel.with_mode(Mode::Off)?, 5)?, Some(10_000));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgressPlan {
    /// What the guest executes; a turn is one round of its loop.
    pub program: Program,
    /// How long the other steps take.
    pub costs: Costs,
    /// The pending timeouts.
    pub timeouts: Vec<Nanos>,
    /// Runs per timeout.
    pub repeats: u32,
    /// Where runs fall between ticks.
    pub phase: Phase,
}

/// Which runs to simulate of a program with an interval timer: each from the program's start, and all of one length. Each is
/// on a machine that has long been quiet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramPlan {
    /// What the program executes; a turn is one round of its loop.
    pub program: Program,
    /// How long the other steps take.
    pub costs: Costs,
    /// What the timer counts; `None` if there is none.
    pub clock: Option<TimerClock>,
    /// The timer's periods.
    pub periods: Vec<Nanos>,
    /// How long each run is.
    pub length: Nanos,
    /// Runs per period.
    pub repeats: u32,
    /// Where runs fall between ticks.
    pub phase: Phase,
}

/// Where the first trap falls between two ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Spread evenly over the ticks' pattern.
    Spread,
    /// Anywhere, from this seed.
    Random(u64),
}

/// One run of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedRun {
    /// The pending timeout, or the period of the program's timer.
    pub timeout: Nanos,
    /// Which repetition, from 0.
    pub repeat: u32,
    /// What came of it.
    pub run: Run,
}

/// A plan that cannot be simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgressError {
    /// No repetitions.
    #[error("repeats: has to be more than 0")]
    NoRepeats,
    /// A scenario that cannot be simulated.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
}

impl ProgressPlan {
    /// 1 to 49 ms, five runs each, spread over the ticks, of the reference guest whose split lock
    /// takes `split_cost` while detection is off.
    ///
    /// # Errors
    /// [`ProgramError`] if a split lock would take no time.
    pub fn for_guest(split_cost: Nanos) -> Result<Self, ProgramError> {
        Ok(Self {
            program: Program::split_loop(split_cost)?,
            costs: Costs::default(),
            timeouts: (1..50).map(Nanos::from_millis).collect(),
            repeats: 5,
            phase: Phase::Spread,
        })
    }

    /// The runs on this kernel, in the order of timeouts. Runs that never finish, because SIGBUS
    /// ended the guest's thread, are left out.
    ///
    /// # Errors
    /// [`ProgressError`], which names the field that is wrong.
    pub fn runs(&self, kernel: &Profile) -> Result<Vec<PlannedRun>, ProgressError> {
        let scenario = |timeout| {
            let mut scenario =
                Scenario::single(TaskSpec::vcpu(self.program, Budget::Relative(timeout)));
            scenario.costs = self.costs;
            scenario.horizon = Nanos::LONGEST;
            scenario.until = Until::Runs(1);
            scenario
        };
        let finished = |report: &Report| report.runs.first().copied();
        let (timeouts, repeats) = (&self.timeouts, self.repeats);
        self.phase
            .runs(kernel, timeouts, repeats, scenario, finished)
    }
}

impl ProgramPlan {
    /// The runs on this kernel, in the order of periods. Runs that SIGBUS ended are left out.
    ///
    /// # Errors
    /// [`ProgressError`], which names the field that is wrong.
    pub fn runs(&self, kernel: &Profile) -> Result<Vec<PlannedRun>, ProgressError> {
        let scenario = |period| {
            let interval = self.clock.map(|_| period);
            let clock = self.clock.unwrap_or_default();
            let mut scenario = Scenario::single(TaskSpec::program(self.program, interval, clock));
            scenario.costs = self.costs;
            scenario.horizon = self.length;
            scenario.until = Until::Horizon;
            scenario
        };
        let finished = |report: &Report| {
            let task = &report.tasks[0];
            let time = &task.time;
            let off_cpu = [time.asleep, time.queued, time.waiting_for_cpu];
            let off_cpu = off_cpu.into_iter().fold(Nanos::ZERO, Nanos::plus);
            task.died_at.is_none().then(|| Run {
                turns: task.turns,
                elapsed: report.elapsed,
                cpu: time.total().since(off_cpu),
            })
        };
        let (periods, repeats) = (&self.periods, self.repeats);
        self.phase
            .runs(kernel, periods, repeats, scenario, finished)
    }
}

impl Phase {
    /// Simulates the scenario of each timeout as often as planned; `finished` is the run that a report tells of, if it came
    /// to its end.
    fn runs(
        self,
        kernel: &Profile,
        timeouts: &[Nanos],
        repeats: u32,
        scenario: impl Fn(Nanos) -> Scenario,
        finished: impl Fn(&Report) -> Option<Run>,
    ) -> Result<Vec<PlannedRun>, ProgressError> {
        if repeats == 0 {
            return Err(ProgressError::NoRepeats);
        }
        let mut runs = Vec::new();
        for &timeout in timeouts {
            let mut scenario = scenario(timeout);
            for repeat in 0..repeats {
                scenario.tick_phase = self.of_run(kernel, timeout, repeat, repeats);
                let run = finished(&simulate(kernel, &scenario)?);
                runs.extend(run.map(|run| PlannedRun {
                    timeout,
                    repeat,
                    run,
                }));
            }
        }
        Ok(runs)
    }

    fn of_run(self, kernel: &Profile, timeout: Nanos, repeat: u32, repeats: u32) -> Nanos {
        let pattern = kernel.hz().pattern().0;
        match self {
            Phase::Spread => {
                // In the middle of equal parts, so that none falls on a tick.
                let part = u128::from(2 * u64::from(repeat) + 1);
                Nanos((u128::from(pattern) * part / (2 * u128::from(repeats))) as u64)
            }
            // The same seed gives each run its own phase, whatever the other runs are.
            Phase::Random(seed) => {
                let run = SplitMix64::new(timeout.0 ^ u64::from(repeat).rotate_left(40)).next_u64();
                Nanos(SplitMix64::new(seed ^ run).below(pattern))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> ProgressPlan {
        ProgressPlan::for_guest(Nanos(1_000)).expect("a plan")
    }

    fn runs(plan: &ProgressPlan, kernel: &str) -> Vec<PlannedRun> {
        plan.runs(&kernel.parse().expect("a kernel")).expect("runs")
    }

    #[test]
    fn with_detection_off_turns_are_time_over_cost() {
        let runs = runs(&plan(), "6.12,hz=250,mode=off");
        assert_eq!(runs.len(), 49 * 5);
        for run in runs {
            assert_eq!(run.run.turns, run.timeout.0 / 1_000);
            assert_eq!(run.run.elapsed, run.timeout);
        }
    }

    #[test]
    fn with_warn_nothing_is_done_up_to_the_sleep_and_a_window_after_it() {
        let runs = runs(&plan(), "6.6,hz=1000");
        let at = |ms| {
            let these = runs
                .iter()
                .filter(move |run| run.timeout == Nanos::from_millis(ms));
            these.map(|run| run.run.turns)
        };
        assert!((1..=9).all(|ms| at(ms).eq([0; 5])));
        // Asleep 11 to 12 ms, then 2 to 3 ms of window.
        assert!(at(15).all(|turns| (1_900..3_100).contains(&turns)));
        assert!(at(49).all(|turns| turns > 5_000));
    }

    #[test]
    fn a_program_is_stuck_under_a_short_timer_on_time_and_not_on_cpu_time() {
        let plan = |clock| ProgramPlan {
            program: plan().program,
            costs: Costs::default(),
            clock,
            periods: [1, 10, 30].map(Nanos::from_millis).to_vec(),
            length: Nanos::from_millis(100),
            repeats: 3,
            phase: Phase::Spread,
        };
        let turns = |kernel: &str, clock| -> Vec<u64> {
            let kernel = kernel.parse().expect("a kernel");
            let runs = plan(clock).runs(&kernel).expect("runs");
            runs.into_iter().map(|run| run.run.turns).collect()
        };
        let kernel = "6.6,hz=1000";
        let wall = turns(kernel, Some(TimerClock::Wall));
        assert_eq!(wall[..6], [0; 6]);
        assert!(wall[6..].iter().all(|&turns| turns > 5_000), "{wall:?}");
        for clock in [None, Some(TimerClock::Cpu)] {
            let all = turns(kernel, clock);
            assert!(all.iter().all(|&turns| turns > 15_000), "{all:?}");
        }
        assert!(turns("6.6,mode=fatal", None).is_empty());
        let off = turns("6.6,hz=1000,mode=off", None);
        assert_eq!(off, [100_000; 9]);
    }

    #[test]
    fn a_seed_decides_everything() {
        let of_seed = |seed| {
            let phase = Phase::Random(seed);
            runs(&ProgressPlan { phase, ..plan() }, "6.1.192")
        };
        assert_eq!(of_seed(1), of_seed(1));
        assert_ne!(of_seed(1), of_seed(2));
    }

    #[test]
    fn a_guest_that_sigbus_ends_finishes_no_run() {
        assert_eq!(runs(&plan(), "6.6,mode=fatal"), []);
    }

    #[test]
    fn bad_plans_name_the_field() {
        let message = |change: fn(&mut ProgressPlan)| {
            let mut plan = plan();
            change(&mut plan);
            let error = plan.runs(&"6.6".parse().expect("a kernel"));
            error.expect_err("refused").to_string()
        };
        assert!(message(|plan| plan.repeats = 0).starts_with("repeats:"));
        assert!(message(|plan| plan.timeouts = vec![Nanos::ZERO]).starts_with("period:"));
        assert!(message(|plan| plan.timeouts = vec![Nanos::NEVER]).starts_with("period:"));
    }
}
