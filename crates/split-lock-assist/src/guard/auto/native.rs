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

/// A nudge reaches so far beyond the guest's work into the split lock, at least.
const NUDGE: Duration = Duration::from_micros(5);
/// And by one part in so many of the work, which is known no better.
const NUDGE_MARGIN: f64 = 16.0;
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
    long_runs: u32,
    /// The vCPU was just behind a split lock when the last run ended.
    was_just_behind: bool,
}

impl NativeTrial {
    pub(super) fn new(emulating: Emulating, cpu_share: f64) -> Self {
        Self {
            emulating,
            cpu_share,
            samples: Samples::default(),
            nudges_left: 0,
            long_runs: 0,
            was_just_behind: false,
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

    /// The budget of the next run, where what is enough for the kernel is `enough`.
    ///
    /// A nudge has to come while detection is off. Nobody here knows how long that is, but it is the
    /// last part of what is enough: so it is tried at several moments of the last half.
    pub(super) fn budget(&self, enough: Duration) -> Duration {
        if self.nudges_left > 0 {
            let work = self.emulating.work * (1.0 + 1.0 / NUDGE_MARGIN);
            return NUDGE + Duration::from_nanos(work as u64);
        }
        let sixteenths = 15 - self.long_runs % 8;
        enough.mul_f64(f64::from(sixteenths) / 16.0)
    }

    /// A run is over. After a nudge the vCPU may have moved, and be just behind a split lock. If it
    /// was before as well, it has done its work once, and one split lock.
    pub(super) fn ran(&mut self, run: &Run, moved: bool, just_behind: bool) {
        let was_just_behind = std::mem::replace(&mut self.was_just_behind, just_behind);
        if self.nudges_left == 0 {
            self.nudges_left = NUDGES_IN_A_ROW;
            self.long_runs += 1;
            return;
        }
        self.nudges_left -= 1;
        if !moved {
            // Detection is on again.
            self.nudges_left = 0;
        } else if was_just_behind && just_behind {
            let turn = nanos(run.cpu) - self.emulating.empty_run_cpu;
            self.samples.add(turn);
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
        let cost = typical - self.emulating.work;
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
    fn nudges_from_one_split_lock_to_the_next_take_as_long_as_a_turn() {
        let run = |cpu_us: u32| Run {
            wall: 2 * cpu_us * US,
            cpu: cpu_us * US,
            ended: Ended::Expired,
        };
        let mut trial = NativeTrial::new(emulating(None), 0.4);
        let enough = 16_000 * US;
        assert_eq!(trial.budget(enough), 15_000 * US);
        trial.ran(&run(9_000), true, true);
        assert_eq!(trial.budget(enough), Duration::from_nanos(6_062));
        // Detection was on: another long run comes next.
        trial.ran(&run(10), false, false);
        assert_eq!(trial.budget(enough), 14_000 * US);
        trial.ran(&run(9_000), true, false);
        for _ in 0..2 {
            trial.ran(&run(15), true, false);
            trial.ran(&run(60), true, true);
            trial.ran(&run(111), true, true);
        }
        assert_eq!(trial.budget(enough), 13_000 * US);
        assert_eq!(trial.turn(500.0), 101_000.0);
    }

    #[test]
    fn nudges_do_not_tell_short_costs_apart() {
        let mut trial = NativeTrial::new(emulating(None), 0.4);
        let run = Run {
            wall: 30 * US,
            cpu: 15 * US,
            ended: Ended::Expired,
        };
        (0..20).for_each(|_| trial.ran(&run, true, true));
        assert!(trial.is_complete());
        assert_eq!(trial.turn(500.0), 1_500.0);
    }
}
