//! Periodic deadlines that do not drift.

use std::time::Duration;

use crate::{Deadline, Expiry};

/// A sequence of deadlines, one period apart: the next one is the last plus the period, however
/// late the last one was noticed. Deadlines that passed unnoticed are skipped and counted.
///
/// It is a value without a clock: it learns what time it is from the [`Expiry`] of a run.
///
/// ```
/// use kvm_preemption_timer::{Deadline, Expiry, MonotonicTime, PeriodicDeadlines};
/// use std::time::Duration;
///
/// let ms = |n: u64| MonotonicTime::from_nanos(n * 1_000_000);
/// let mut deadlines = PeriodicDeadlines::new(ms(10).into(), Duration::from_millis(1)).unwrap();
///
/// // Noticed 0.2 ms late: the next deadline is still on the grid.
/// let late = Expiry { deadline: deadlines.deadline(), overshoot: Duration::from_micros(200) };
/// assert_eq!(deadlines.advance(&late), 0);
/// assert_eq!(deadlines.deadline(), Deadline::Wall(ms(11)));
///
/// // Noticed 3.5 ms late: three deadlines were missed.
/// let later = Expiry { deadline: deadlines.deadline(), overshoot: Duration::from_micros(3500) };
/// assert_eq!(deadlines.advance(&later), 3);
/// assert_eq!(deadlines.deadline(), Deadline::Wall(ms(15)));
/// assert_eq!(deadlines.missed(), 3);
/// ```
#[derive(Debug, Clone)]
pub struct PeriodicDeadlines {
    deadline: Deadline,
    period: Duration,
    missed: u64,
}

impl PeriodicDeadlines {
    /// Deadlines at `first`, `first + period`, and so on; `None` if `period` is zero, which would
    /// let the guest execute nothing at all.
    #[must_use]
    pub fn new(first: Deadline, period: Duration) -> Option<Self> {
        (!period.is_zero()).then_some(PeriodicDeadlines {
            deadline: first,
            period,
            missed: 0,
        })
    }

    /// The deadline of the current quantum.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Goes on to the next quantum that lies ahead of `expiry`, and returns how many deadlines
    /// were missed on the way.
    pub fn advance(&mut self, expiry: &Expiry) -> u64 {
        let (Some((_, current_ns)), Some((_, expired_ns))) =
            (self.deadline.timer(), expiry.deadline.timer())
        else {
            return 0;
        };
        let late_ns = u128::from(expired_ns) + expiry.overshoot.as_nanos();
        let late_ns = late_ns.saturating_sub(u128::from(current_ns));
        let missed = late_ns / self.period.as_nanos();
        let step_ns = (missed + 1) * self.period.as_nanos();
        let step = Duration::from_nanos(u64::try_from(step_ns).unwrap_or(u64::MAX));
        self.deadline = self.deadline.saturating_add(step);
        let missed = u64::try_from(missed).unwrap_or(u64::MAX);
        self.missed = self.missed.saturating_add(missed);
        missed
    }

    /// How many deadlines were missed since the beginning.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MonotonicTime;
    use proptest::prelude::*;

    fn at(ns: u64) -> Deadline {
        MonotonicTime::from_nanos(ns).into()
    }

    #[test]
    fn a_period_of_zero_is_refused() {
        assert!(PeriodicDeadlines::new(at(1), Duration::ZERO).is_none());
    }

    #[test]
    fn no_deadline_never_moves() {
        let mut deadlines =
            PeriodicDeadlines::new(Deadline::Never, Duration::from_secs(1)).unwrap();
        let expiry = Expiry {
            deadline: at(5),
            overshoot: Duration::ZERO,
        };
        assert_eq!(deadlines.advance(&expiry), 0);
        assert_eq!(deadlines.deadline(), Deadline::Never);
    }

    proptest! {
        #[test]
        fn the_next_deadline_is_on_the_grid_and_ahead(
            first in 0..1u64 << 40,
            period in 1..1u64 << 30,
            overshoots in prop::collection::vec(0..1u64 << 34, 1..20),
        ) {
            let mut deadlines = PeriodicDeadlines::new(at(first), Duration::from_nanos(period)).unwrap();
            let mut steps = 0;
            for overshoot in overshoots {
                let Some((_, before)) = deadlines.deadline().timer() else { unreachable!() };
                let expiry = Expiry {
                    deadline: deadlines.deadline(),
                    overshoot: Duration::from_nanos(overshoot),
                };
                steps += 1 + deadlines.advance(&expiry);
                let Some((_, next)) = deadlines.deadline().timer() else { unreachable!() };
                prop_assert!(next > before + overshoot && next <= before + overshoot + period);
                prop_assert_eq!(next, first + steps * period);
            }
        }

        #[test]
        fn nothing_overflows(first: u64, period_ns in 1..u64::MAX, overshoot: Duration) {
            let mut deadlines = PeriodicDeadlines::new(at(first), Duration::from_nanos(period_ns)).unwrap();
            let expiry = Expiry { deadline: at(first), overshoot };
            deadlines.advance(&expiry);
            deadlines.advance(&expiry);
        }
    }
}
