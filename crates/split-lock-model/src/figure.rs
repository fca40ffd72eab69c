//! The figure: turns a guest completes within a pending timeout, for a kernel, from the model.

use serde::{Deserialize, Serialize};

use crate::kernel::{Mode, Profile, ProfileError};
use crate::random::SplitMix64;
use crate::sim::{
    Budget, Costs, Program, ProgramError, Run, Scenario, ScenarioError, TaskSpec, Until, simulate,
};
use crate::time::Nanos;

/// What to draw, for which guest and machine.
///
/// ```
/// use split_lock_model::figure::{Curve, Plan};
/// use split_lock_model::time::Nanos;
///
/// let plan = Plan::for_guest(Nanos(500))?;
/// let rows = plan.rows(&"6.6,hz=1000".parse()?)?;
/// let turns = |curve, ms| rows.iter()
///     .filter(|row| row.curve == curve && row.timeout == Nanos::from_millis(ms))
///     .map(|row| row.run.turns).max();
/// assert_eq!(turns(Curve::Warn, 5), Some(0));
/// assert_eq!(turns(Curve::DetectionOff, 5), Some(10_000));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What the guest executes; a turn is one round of its loop.
    pub program: Program,
    /// How long the other steps take.
    pub costs: Costs,
    /// The pending timeouts.
    pub timeouts: Vec<Nanos>,
    /// Runs per timeout and curve.
    pub repeats: u32,
    /// How the runs follow each other.
    pub order: Order,
    /// Where runs fall between ticks.
    pub phase: Phase,
}

/// How the runs of one timeout follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Each on a machine that has long been quiet: detection is on when it begins.
    Independent,
    /// One after the other, as a VMM does it, after this many that are not counted. What a run
    /// leaves behind (an open window, a phase) meets the next.
    Consecutive {
        /// Runs before the first that counts.
        warm_up: u32,
    },
}

/// Where the first trap falls between two ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Always here, counted from a tick.
    Fixed(Nanos),
    /// Spread evenly over the ticks' pattern.
    Spread,
    /// Anywhere, from this seed.
    Random(u64),
}

/// Which kernel a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Curve {
    /// The same kernel, booted with detection off.
    DetectionOff,
    /// The kernel as given.
    Warn,
}

/// One run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The kernel.
    pub curve: Curve,
    /// The pending timeout.
    pub timeout: Nanos,
    /// Which repetition, from 0.
    pub repeat: u32,
    /// What came of it.
    pub run: Run,
}

/// A figure that cannot be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FigureError {
    /// No timeouts.
    #[error("timeouts: there are none")]
    NoTimeouts,
    /// No repetitions.
    #[error("repeats: has to be more than 0")]
    NoRepeats,
    /// More runs than anyone plots.
    #[error("repeats: {0} runs for one timeout, warm-up included, are more than {most}", most = Plan::MOST_RUNS)]
    TooManyRepeats(u64),
    /// A kernel that cannot be booted so.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A scenario that cannot be simulated.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
}

impl Plan {
    /// The most runs for one timeout, warm-up included.
    pub const MOST_RUNS: u32 = 1_000_000;

    /// The usual figure: 1 to 49 ms, five runs each, spread over the ticks, for the reference guest
    /// whose split lock takes `split_cost` while detection is off.
    ///
    /// # Errors
    /// [`ProgramError`] if a split lock would take no time.
    pub fn for_guest(split_cost: Nanos) -> Result<Self, ProgramError> {
        Ok(Self {
            program: Program::split_loop(split_cost)?,
            costs: Costs::default(),
            timeouts: (1..50).map(Nanos::from_millis).collect(),
            repeats: 5,
            order: Order::Independent,
            phase: Phase::Spread,
        })
    }

    /// Both curves for this kernel: all rows with detection off, then all as the kernel is.
    ///
    /// # Errors
    /// [`FigureError`], which names the field that is wrong.
    pub fn rows(&self, kernel: &Profile) -> Result<Vec<Row>, FigureError> {
        let off = kernel.with_mode(Mode::Off)?;
        let mut rows = self.curve(Curve::DetectionOff, &off)?;
        rows.extend(self.curve(Curve::Warn, kernel)?);
        Ok(rows)
    }

    /// One curve, for the kernel exactly as given. Runs that never finish, because SIGBUS ended the
    /// guest's thread, have no row.
    ///
    /// # Errors
    /// [`FigureError`], which names the field that is wrong.
    pub fn curve(&self, curve: Curve, kernel: &Profile) -> Result<Vec<Row>, FigureError> {
        if self.timeouts.is_empty() {
            return Err(FigureError::NoTimeouts);
        }
        if self.repeats == 0 {
            return Err(FigureError::NoRepeats);
        }
        let warm_up = match self.order {
            Order::Independent => 0,
            Order::Consecutive { warm_up } => warm_up,
        };
        let all_runs = u64::from(self.repeats) + u64::from(warm_up);
        if all_runs > Self::MOST_RUNS.into() {
            return Err(FigureError::TooManyRepeats(all_runs));
        }
        let mut rows = Vec::with_capacity(self.timeouts.len() * self.repeats as usize);
        for &timeout in &self.timeouts {
            let runs = self.runs(kernel, timeout)?;
            let row = |(repeat, run)| Row {
                curve,
                timeout,
                repeat,
                run,
            };
            rows.extend((0..).zip(runs).map(row));
        }
        Ok(rows)
    }

    fn runs(&self, kernel: &Profile, timeout: Nanos) -> Result<Vec<Run>, FigureError> {
        let vcpu = TaskSpec::vcpu(self.program, Budget::Relative(timeout));
        let mut scenario = Scenario::single(vcpu);
        scenario.costs = self.costs;
        scenario.horizon = Nanos::LONGEST;
        match self.order {
            Order::Independent => {
                scenario.until = Until::Runs(1);
                let mut runs = Vec::with_capacity(self.repeats as usize);
                for repeat in 0..self.repeats {
                    scenario.tick_phase = self.phase_of(kernel, timeout, repeat);
                    runs.extend(simulate(kernel, &scenario)?.runs);
                }
                Ok(runs)
            }
            Order::Consecutive { warm_up } => {
                scenario.until = Until::Runs(self.repeats + warm_up);
                scenario.tick_phase = self.phase_of(kernel, timeout, 0);
                let all = simulate(kernel, &scenario)?.runs;
                // A thread that SIGBUS ended finished fewer runs than asked for, perhaps none.
                Ok(all.into_iter().skip(warm_up as usize).collect())
            }
        }
    }

    fn phase_of(&self, kernel: &Profile, timeout: Nanos, repeat: u32) -> Nanos {
        let pattern = kernel.hz().pattern().0;
        match self.phase {
            Phase::Fixed(phase) => phase,
            Phase::Spread => {
                // In the middle of equal parts, so that none falls on a tick.
                let part = u128::from(2 * u64::from(repeat) + 1);
                Nanos((u128::from(pattern) * part / (2 * u128::from(self.repeats))) as u64)
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

    fn plan() -> Plan {
        Plan::for_guest(Nanos(1_000)).expect("a plan")
    }

    fn turns(rows: &[Row], curve: Curve, timeout: Nanos) -> Vec<u64> {
        let wanted = rows
            .iter()
            .filter(|row| row.curve == curve && row.timeout == timeout);
        wanted.map(|row| row.run.turns).collect()
    }

    #[test]
    fn with_detection_off_turns_are_time_over_cost() {
        let rows = plan()
            .rows(&"6.12,hz=250".parse().expect("a kernel"))
            .expect("rows");
        assert_eq!(rows.len(), 2 * 49 * 5);
        for row in rows.iter().filter(|row| row.curve == Curve::DetectionOff) {
            assert_eq!(row.run.turns, row.timeout.0 / 1_000);
            assert_eq!(row.run.elapsed, row.timeout);
        }
    }

    #[test]
    fn warn_has_a_foot_and_steps() {
        let rows = plan()
            .rows(&"6.6,hz=1000".parse().expect("a kernel"))
            .expect("rows");
        let at = |ms| turns(&rows, Curve::Warn, Nanos::from_millis(ms));
        assert!((1..=9).all(|ms| at(ms) == [0; 5]));
        // Asleep 11 to 12 ms, then 2 to 3 ms of window.
        assert!(at(15).iter().all(|&turns| (1_900..3_100).contains(&turns)));
        assert!(at(49).iter().all(|&turns| turns > 5_000));
    }

    #[test]
    fn a_seed_decides_everything() {
        let plan = |seed| Plan {
            phase: Phase::Random(seed),
            ..plan()
        };
        let kernel = "6.1.192".parse().expect("a kernel");
        assert_eq!(plan(1).rows(&kernel), plan(1).rows(&kernel));
        assert_ne!(plan(1).rows(&kernel), plan(2).rows(&kernel));
    }

    #[test]
    fn consecutive_runs_leave_their_window_to_the_next() {
        let kernel = "6.6,hz=1000".parse().expect("a kernel");
        let longest = |order| {
            let plan = Plan {
                order,
                repeats: 40,
                phase: Phase::Fixed(Nanos(1)),
                timeouts: vec![Nanos::from_millis(12)],
                ..plan()
            };
            let rows = plan.curve(Curve::Warn, &kernel).expect("rows");
            assert_eq!(rows.len(), 40);
            rows.iter().map(|row| row.run.turns).max().expect("rows")
        };
        // The sleep takes more than 11 of the 12 ms, and a window lasts up to 3.
        assert!(longest(Order::Independent) < 1_000);
        assert!(longest(Order::Consecutive { warm_up: 3 }) > 1_000);
    }

    #[test]
    fn a_guest_that_sigbus_ends_finishes_no_run() {
        let kernel = "6.6,mode=fatal".parse().expect("a kernel");
        for order in [Order::Independent, Order::Consecutive { warm_up: 3 }] {
            let plan = Plan { order, ..plan() };
            assert_eq!(plan.curve(Curve::Warn, &kernel), Ok(Vec::new()));
        }
    }

    #[test]
    fn bad_plans_name_the_field() {
        let kernel = "6.6".parse().expect("a kernel");
        let message = |change: fn(&mut Plan)| {
            let mut plan = plan();
            change(&mut plan);
            plan.rows(&kernel).expect_err("refused").to_string()
        };
        assert!(message(|plan| plan.timeouts.clear()).starts_with("timeouts:"));
        assert!(message(|plan| plan.repeats = 0).starts_with("repeats:"));
        assert!(message(|plan| plan.repeats = u32::MAX).starts_with("repeats:"));
        assert!(
            message(|plan| plan.order = Order::Consecutive { warm_up: u32::MAX })
                .starts_with("repeats:")
        );
        assert!(message(|plan| plan.timeouts = vec![Nanos::ZERO]).starts_with("period:"));
        assert!(message(|plan| plan.timeouts = vec![Nanos::NEVER]).starts_with("period:"));
    }
}
