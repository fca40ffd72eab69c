//! How soon to look again whether a vCPU is stalled.

use std::time::Duration;

/// So long after a stall, with a shortest probe of 100 us, a budget is 5 ms.
const LONG_AGO: Duration = Duration::from_millis(250);

/// Budgets that are short after a stall and grow from there on.
///
/// A probe every q costs some time for each, and finds a stall q/2 late on average. If the next stall
/// comes after t, the sum is least for a q in proportion to the root of t; and how long the last one
/// is ago is the best guess of when the next one comes. So the budget is the geometric mean of the
/// shortest probe and that time: 100 us right after a stall, 1 ms after 10 ms.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ProbeInterval {
    since_stall: Option<Duration>,
    /// It is certain that there was one.
    has_stalled: bool,
}

impl ProbeInterval {
    pub(super) fn budget(&self, own: Duration, shortest: Duration) -> Duration {
        let Some(since) = self.since_stall else {
            return own;
        };
        let mean = (shortest.as_secs_f64() * since.as_secs_f64()).sqrt();
        let mean = Duration::try_from_secs_f64(mean).unwrap_or(Duration::MAX);
        own.min(shortest.max(mean))
    }

    /// There has been a stall, and another is to be expected.
    pub(super) fn has_stalled(&self) -> bool {
        self.has_stalled
    }

    pub(super) fn advance(&mut self, wall: Duration) {
        if let Some(since) = &mut self.since_stall {
            *since = since.saturating_add(wall);
        }
    }

    pub(super) fn stalled(&mut self) {
        self.since_stall = Some(Duration::ZERO);
        self.has_stalled = true;
    }

    /// There may have been a stall, nobody knows where: runs that are no longer than about half of
    /// the kernel's sleep would end in the next one.
    pub(super) fn suspected(&mut self) {
        let since = self.since_stall.unwrap_or(Duration::MAX);
        self.since_stall = Some(since.min(LONG_AGO));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    #[test]
    fn probes_become_longer_with_the_root_of_time_and_never_longer_than_the_vmms_own() {
        let mut interval = ProbeInterval::default();
        let own = 2000 * US;
        assert_eq!(interval.budget(own, 100 * US), own);
        interval.stalled();
        assert_eq!(interval.budget(own, 100 * US), 100 * US);
        assert_eq!(interval.budget(50 * US, 100 * US), 50 * US);
        for (passed, budget) in [(100, 100), (300, 200), (2_100, 500), (7_500, 1000)] {
            interval.advance(passed * US);
            let got = interval.budget(own, 100 * US);
            assert!(got.abs_diff(budget * US) < US, "{got:?} after {passed} us");
        }
        interval.advance(Duration::MAX);
        assert_eq!(interval.budget(own, 100 * US), own);
        interval.stalled();
        assert_eq!(interval.budget(own, 100 * US), 100 * US);
    }

    #[test]
    fn a_stall_that_is_only_suspected_makes_long_runs_shorter() {
        let mut interval = ProbeInterval::default();
        interval.suspected();
        let about = |budget: Duration| budget.abs_diff(5000 * US) < US;
        assert!(about(interval.budget(100_000 * US, 100 * US)));
        assert_eq!(interval.budget(1000 * US, 100 * US), 1000 * US);
        interval.stalled();
        interval.suspected();
        assert_eq!(interval.budget(100_000 * US, 100 * US), 100 * US);
    }
}
