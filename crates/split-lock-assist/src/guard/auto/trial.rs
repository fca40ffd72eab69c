//! What is measured before a choice is made.

use std::time::Duration;

use super::samples::Samples;
use crate::guard::run::Run;

/// Emulating is tried until there were so many operations, for at least so long.
const OPERATIONS: f64 = 32.0;
const MIN_WALL_NS: f64 = 2e6;

const ROUND_TRIPS: usize = 6;
const HANDLED_PER_ROUND_TRIP: usize = 2;

/// Totals over some runs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) wall_ns: f64,
    pub(super) cpu_ns: f64,
    pub(super) runs: f64,
}

impl Totals {
    pub(super) fn add(&mut self, run: &Run) {
        self.wall_ns += nanos(run.wall);
        self.cpu_ns += nanos(run.cpu);
        self.runs += 1.0;
    }

    /// The share of time in which the thread had a CPU.
    pub(super) fn cpu_share(&self) -> f64 {
        self.cpu_ns / self.wall_ns.max(1.0)
    }

    fn without(&self, other: &Self) -> Self {
        Self {
            wall_ns: self.wall_ns - other.wall_ns,
            cpu_ns: self.cpu_ns - other.cpu_ns,
            runs: self.runs - other.runs,
        }
    }
}

/// A stretch of emulating.
#[derive(Debug, Clone, Default)]
pub(super) struct EmulatingTrial {
    pub(super) totals: Totals,
    /// What of that went into measuring.
    measuring: Totals,
    operations: f64,
    /// How many of them were breakpoints.
    hits: f64,
    /// From a breakpoint that was left as it was until it was hit again: the way out of the guest
    /// and back.
    round_trip: Samples,
    /// From an emulated instruction to the next breakpoint.
    to_next: Samples,
    /// Emulating one instruction.
    handling: Samples,
}

impl EmulatingTrial {
    /// An instruction has been emulated. That with which the trial begins is not part of it.
    pub(super) fn operation(&mut self, by_breakpoint: bool) {
        if !by_breakpoint && self.totals.runs == 0.0 {
            return;
        }
        self.operations += 1.0;
        self.hits += f64::from(u8::from(by_breakpoint));
    }

    pub(super) fn went_round(&mut self, took: Duration) {
        let took = nanos(took);
        self.round_trip.add(took);
        self.measuring.wall_ns += took;
        self.measuring.cpu_ns += took;
    }

    pub(super) fn went_on(&mut self, took: Duration) {
        self.to_next.add(nanos(took));
    }

    pub(super) fn handled(&mut self, took: Duration) {
        self.handling.add(nanos(took));
    }

    /// The last run was only there to see what it costs.
    pub(super) fn ran_empty(&mut self, run: &Run) {
        self.measuring.add(run);
    }

    /// The breakpoint that is hit now should be left as it is.
    pub(super) fn wants_round_trip(&self) -> bool {
        self.round_trip.count() < ROUND_TRIPS
            && self.handling.count() >= self.round_trip.count() * HANDLED_PER_ROUND_TRIP
    }

    pub(super) fn has_breakpoints(&self) -> bool {
        self.hits > 0.0
    }

    pub(super) fn is_complete(&self) -> bool {
        self.operations >= OPERATIONS && self.totals.wall_ns >= MIN_WALL_NS
    }

    /// What it has shown, if a run in which nothing is executed takes so much CPU time. None if there
    /// was nothing to emulate, or not enough to know what it costs.
    pub(super) fn result(&self, empty_run_cpu: f64) -> Option<Emulating> {
        if self.operations == 0.0 {
            return None;
        }
        let spent = self.totals.without(&self.measuring);
        let (each, to_next) = if 2.0 * self.hits > self.operations {
            let each = self.round_trip.typical()? + self.handling.typical()?;
            (each, Some(self.to_next.typical()?))
        } else {
            (0.0, None)
        };
        let costs = self.hits * each + spent.runs * empty_run_cpu;
        Some(Emulating {
            per_operation: spent.wall_ns / self.operations,
            // By CPU time, because somebody else may have had the CPU for a while.
            work: ((spent.cpu_ns - costs) / self.operations).max(0.0),
            to_next,
            round_trip: self.round_trip.typical().unwrap_or_default(),
            empty_run_cpu,
        })
    }
}

/// What a stretch of emulating has shown, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Emulating {
    /// From one split lock to the next.
    pub(super) per_operation: f64,
    /// How much of that is the guest's own work.
    pub(super) work: f64,
    /// From an emulated instruction to the next breakpoint, if there are breakpoints.
    pub(super) to_next: Option<f64>,
    /// The way out of the guest and back, if there are breakpoints.
    pub(super) round_trip: f64,
    /// CPU time of a run in which nothing is executed.
    pub(super) empty_run_cpu: f64,
}

pub(super) fn nanos(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::run::Ended;

    const US: Duration = Duration::from_micros(1);

    fn run(wall_us: u32, cpu_us: u32) -> Run {
        Run {
            wall: wall_us * US,
            cpu: cpu_us * US,
            ended: Ended::Expired,
        }
    }

    #[test]
    fn with_breakpoints_the_work_is_what_is_left_of_the_cpu_time() {
        let mut trial = EmulatingTrial::default();
        // Ten operations of 3 us work, 8 us round trip and 2 us handling; two more round trips; a run
        // that costs 20 us; and a third of the time the CPU was somebody else's.
        trial
            .totals
            .add(&run((130 + 16 + 20) * 3 / 2, 130 + 16 + 20));
        for _ in 0..10 {
            trial.operation(true);
            trial.went_on(11 * US);
            trial.handled(2 * US);
        }
        trial.went_round(8 * US);
        trial.went_round(8 * US);
        let result = trial.result(20_000.0).unwrap();
        assert_eq!(result.to_next, Some(11_000.0));
        assert!((result.work - 3_000.0).abs() < 1.0, "{result:?}");
        assert!((23_000.0..24_000.0).contains(&result.per_operation));
    }

    #[test]
    fn without_breakpoints_every_run_costs_as_much_as_an_empty_one() {
        let mut trial = EmulatingTrial::default();
        assert_eq!(trial.result(10_000.0), None);
        trial.operation(false);
        // Two operations, each after 300 us of work in three runs of which the last was stalled.
        for _ in 0..2 {
            trial.totals.add(&run(200, 220));
            trial.totals.add(&run(100, 110));
            trial.totals.add(&run(100, 10));
            trial.operation(false);
        }
        let empty = run(100, 10);
        trial.totals.add(&empty);
        trial.ran_empty(&empty);
        let result = trial.result(10_000.0).unwrap();
        assert_eq!(result.to_next, None);
        assert!((result.per_operation - 400_000.0).abs() < 1.0);
        assert!((result.work - 310_000.0).abs() < 1.0, "{result:?}");
    }
}
