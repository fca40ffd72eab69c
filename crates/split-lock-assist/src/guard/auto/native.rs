//! What a split lock costs natively.

use std::time::Duration;

use super::samples::Samples;
use super::trial::{Emulating, nanos};
use crate::guard::config::MEASURABLE_NATIVE_COST;
use crate::guard::run::Run;

/// With breakpoints, it is measured so many times.
const STEPS: usize = 12;
/// With fewer, it is not known.
const FEWEST_STEPS: usize = 3;
/// The kernel's punishment takes at least 10 ms: what takes so long was not a native split lock.
const PUNISHED: Duration = Duration::from_millis(5);

/// Too short for anything but the instruction at hand.
const NUDGE: Duration = Duration::from_micros(5);
const NUDGES: usize = 8;
const NUDGES_IN_A_ROW: u32 = 6;

/// Measuring the native cost, while the kernel lets split locks through.
#[derive(Debug, Clone)]
pub(super) struct NativeTrial {
    pub(super) emulating: Emulating,
    pub(super) cpu_share: f64,
    samples: Samples,
    /// Before the next long run, in which the kernel is to get done with its punishment.
    nudges_left: u32,
}

impl NativeTrial {
    pub(super) fn new(emulating: Emulating, cpu_share: f64) -> Self {
        Self {
            emulating,
            cpu_share,
            samples: Samples::default(),
            nudges_left: 0,
        }
    }

    /// By breakpoints that are stepped over, and not by nudging.
    pub(super) fn steps(&self) -> bool {
        self.emulating.to_next.is_some()
    }

    /// From one breakpoint that was stepped over to the next, with so many exits in between that only
    /// stepping has caused.
    pub(super) fn stepped(&mut self, took: Duration, exits: u32) {
        if took < PUNISHED {
            let guests = nanos(took) - f64::from(exits) * self.emulating.round_trip;
            self.samples.add(guests);
        }
    }

    /// The budget of the next run, if it is a nudge.
    pub(super) fn nudge(&self) -> Option<Duration> {
        (self.nudges_left > 0).then_some(NUDGE)
    }

    /// A run is over. After a nudge the vCPU may have moved, and be just behind a split lock.
    pub(super) fn ran(&mut self, run: &Run, moved: bool, just_behind: bool) {
        if self.nudges_left == 0 {
            self.nudges_left = NUDGES_IN_A_ROW;
            return;
        }
        self.nudges_left -= 1;
        if !moved {
            // Detection is on again.
            self.nudges_left = 0;
        } else if just_behind {
            self.samples
                .add(nanos(run.cpu) - self.emulating.empty_run_cpu);
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.samples.count() >= if self.steps() { STEPS } else { NUDGES }
    }

    /// The time from one split lock to the next, natively.
    pub(super) fn turn(&self, default_cost: f64) -> f64 {
        self.emulating.work + self.cost().unwrap_or(default_cost)
    }

    fn cost(&self) -> Option<f64> {
        let typical = self.samples.typical()?;
        if let Some(to_next) = self.emulating.to_next {
            // Stepping has the work and the round trip in common with emulating.
            return (self.samples.count() >= FEWEST_STEPS).then(|| (typical - to_next).max(0.0));
        }
        // A nudge that ended in the split lock may have begun in the work before it.
        let cost = typical - self.emulating.work.min(nanos(NUDGE));
        (cost >= nanos(MEASURABLE_NATIVE_COST)).then_some(cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::run::Ended;

    const US: Duration = Duration::from_micros(1);

    fn emulating(to_next: Option<f64>) -> Emulating {
        Emulating {
            per_operation: 20_000.0,
            work: 1_000.0,
            to_next,
            round_trip: 8_000.0,
            empty_run_cpu: 10_000.0,
        }
    }

    #[test]
    fn stepping_costs_the_split_lock_more_than_emulating() {
        let mut trial = NativeTrial::new(emulating(Some(9_000.0)), 0.4);
        assert_eq!(trial.turn(500.0), 1_500.0);
        trial.stepped(12_000 * US, 0);
        for _ in 0..STEPS {
            assert!(!trial.is_complete());
            trial.stepped(13 * US, 0);
        }
        assert!(trial.is_complete());
        assert_eq!(trial.turn(500.0), 5_000.0);
    }

    #[test]
    fn an_exit_after_each_step_does_not_count() {
        let mut trial = NativeTrial::new(emulating(Some(9_000.0)), 0.4);
        (0..STEPS).for_each(|_| trial.stepped(21 * US, 1));
        assert_eq!(trial.turn(500.0), 5_000.0);
    }

    #[test]
    fn nudges_that_end_behind_a_split_lock_took_as_long_as_it() {
        let run = |cpu_us: u32| Run {
            wall: 2 * cpu_us * US,
            cpu: cpu_us * US,
            ended: Ended::Expired,
        };
        let mut trial = NativeTrial::new(emulating(None), 0.4);
        assert_eq!(trial.nudge(), None);
        trial.ran(&run(9_000), true, true);
        assert_eq!(trial.nudge(), Some(NUDGE));
        // Detection was on: a long run comes next, and again no sample.
        trial.ran(&run(10), false, false);
        assert_eq!(trial.nudge(), None);
        trial.ran(&run(9_000), true, true);
        for _ in 0..3 {
            trial.ran(&run(111), true, true);
            trial.ran(&run(15), true, false);
        }
        assert_eq!(trial.nudge(), None);
        assert_eq!(trial.turn(500.0), 101_000.0);
    }

    #[test]
    fn nudges_do_not_tell_short_costs_apart() {
        let mut trial = NativeTrial::new(emulating(None), 0.4);
        let run = Run {
            wall: 30 * US,
            cpu: 17 * US,
            ended: Ended::Expired,
        };
        (0..20).for_each(|_| trial.ran(&run, true, true));
        assert!(trial.is_complete());
        assert_eq!(trial.turn(500.0), 1_500.0);
    }
}
