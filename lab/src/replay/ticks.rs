//! The machine that a kernel ran on: above all, where its ticks lie on its clock.

use split_lock_model::machine::{Hardware, Topology};
use split_lock_model::time::{Hz, Nanos, TickClock};

use crate::journal::Event;

/// How long after its moment a tick may be counted: interrupts are off for a while now and then.
pub const LATE_TICK_NS: u64 = 100_000;

/// How long before the kernel's count of ticks the time may have been read that an event is noted with: a probe reads the
/// clock first.
const NOTING_NS: u64 = 10_000;

/// What a journal was written on.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// What its CPUs detect.
    pub hardware: Hardware,
    /// Its CPUs.
    pub topology: Topology,
    /// Its ticks.
    pub ticks: Ticks,
}

/// The ticks of one boot: their phase was read from the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    clock: TickClock,
    /// What the kernel's count is ahead of the clock's.
    ahead: u64,
}

/// Counts that tell no tick rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicksError {
    /// Less than a tenth of a second.
    #[error("the kernel counted ticks for {0} ns: that is too short to tell how often it ticks")]
    TooShort(u64),
    /// Not a rate that kernels have.
    #[error("the kernel counted {ticks} ticks in {ns} ns: no x86 kernel ticks so often")]
    Rate {
        /// How many ticks.
        ticks: u64,
        /// In how long.
        ns: u64,
    },
}

impl Ticks {
    /// From moments at which the kernel has counted a tick, and what it had counted then. It may have been late for some
    /// of them, and never early.
    ///
    /// # Errors
    /// If they lie too close together, or no x86 kernel counts so many in that time.
    pub fn counted(counts: &[(u64, u64)]) -> Result<Self, TicksError> {
        let [first, .., last] = counts else {
            return Err(TicksError::TooShort(0));
        };
        let (ns, ticks) = (
            last.0.saturating_sub(first.0),
            last.1.saturating_sub(first.1),
        );
        if ns < 100_000_000 {
            return Err(TicksError::TooShort(ns));
        }
        // Late by a tick at either end.
        let is_it = |hz: &Hz| {
            let expected = u128::from(ns) * u128::from(hz.get()) / 1_000_000_000;
            expected.abs_diff(ticks.into()) <= 2
        };
        let hz = Hz::ALL.into_iter().find(is_it);
        let hz = hz.ok_or(TicksError::Rate { ticks, ns })?;
        // The moment of the first of them, in nanoseconds times the rate.
        let rate = u128::from(hz.get());
        let moment = |&(ns, jiffies): &(u64, u64)| {
            let since = u128::from(jiffies.saturating_sub(first.1)) * 1_000_000_000;
            (u128::from(ns) * rate).saturating_sub(since)
        };
        let earliest = counts.iter().map(moment).min().unwrap_or_default() / rate;
        let earliest = u64::try_from(earliest).unwrap_or(first.0);
        let clock = TickClock::new(hz, Nanos(earliest));
        Ok(Self::through(clock, earliest, first.1))
    }

    fn through(clock: TickClock, ns: u64, jiffies: u64) -> Self {
        let counted = clock.jiffies_at(Nanos(ns)).0;
        Self {
            clock,
            ahead: jiffies.wrapping_sub(counted),
        }
    }

    /// The clock that the model computes with.
    #[must_use]
    pub const fn clock(&self) -> TickClock {
        self.clock
    }

    /// The kernel's count of ticks at a moment, if no tick is late.
    #[must_use]
    pub const fn at(&self, ns: u64) -> u64 {
        self.clock.jiffies_at(Nanos(ns)).0.wrapping_add(self.ahead)
    }

    /// Whether an event's count of ticks is ahead of its moment.
    #[must_use]
    pub const fn is_early(&self, event: &Event) -> bool {
        event.jiffies > self.at(event.ns.saturating_add(NOTING_NS))
    }

    /// Whether an event's count of ticks is that of a moment before its own, by more than [`LATE_TICK_NS`].
    #[must_use]
    pub const fn is_late(&self, event: &Event) -> bool {
        event.jiffies < self.at(event.ns.saturating_sub(LATE_TICK_NS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phase_is_that_of_the_tick_that_was_counted_soonest() {
        for hz in Hz::ALL {
            let clock = TickClock::new(hz, Nanos(777_777));
            let count = |tick: u64, late: u64| {
                let counted = clock.jiffies_at(Nanos(777_777)).0;
                let moment = clock
                    .time_of(split_lock_model::time::Jiffies(counted + tick))
                    .0;
                (moment + late, 5_000_000_000 + tick)
            };
            let counts: Vec<_> = (10..400)
                .map(|tick| count(tick, if tick == 60 { 0 } else { 1 + tick * 7 % 900 }))
                .collect();
            let ticks = Ticks::counted(&counts).expect("a tick rate");
            assert_eq!(ticks.clock().hz(), hz);
            let (moment, jiffies) = count(100, 0);
            assert_eq!(ticks.at(moment + 1), jiffies);
            assert_eq!(ticks.at(moment - 2), jiffies - 1);
        }
    }

    #[test]
    fn counts_without_a_tick_rate_are_refused() {
        let refused = |counts: &[(u64, u64)]| Ticks::counted(counts).expect_err("no rate");
        assert_eq!(refused(&[]), TicksError::TooShort(0));
        assert_eq!(refused(&[(5, 1), (4, 0)]), TicksError::TooShort(0));
        let (ns, ticks) = (1_000_000_000, 500);
        assert_eq!(
            refused(&[(0, 0), (ns, ticks)]),
            TicksError::Rate { ticks, ns }
        );
    }
}
