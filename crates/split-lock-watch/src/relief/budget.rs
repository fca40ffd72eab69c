//! How much of each second may be spent on relief.

use std::collections::VecDeque;
use std::time::Duration;

/// What a relief is charged at least: so there are no more of them in a second than the budget has of these. Each may be
/// worth a window to whoever feigns a livelock, however short it is.
pub const SHORTEST_CHARGED: Duration = Duration::from_millis(2);

const SECOND_NS: u64 = 1_000_000_000;

/// So much of every second, whichever second one looks at.
#[derive(Debug, Clone)]
pub struct ReliefBudget {
    ns_per_second: u64,
    /// When each relief of the last second ended, and what it was charged; the newest last.
    spent: VecDeque<(u64, u64)>,
}

impl ReliefBudget {
    /// Nothing of it is spent.
    #[must_use]
    pub fn new(per_second: Duration) -> Self {
        Self {
            ns_per_second: u64::try_from(per_second.as_nanos()).unwrap_or(u64::MAX),
            spent: VecDeque::new(),
        }
    }

    /// What is left of it, for a relief that begins now.
    pub fn available(&mut self, now_ns: u64) -> Duration {
        let is_over = |&(ended_ns, _): &(u64, u64)| ended_ns.saturating_add(SECOND_NS) <= now_ns;
        while self.spent.front().is_some_and(is_over) {
            self.spent.pop_front();
        }
        let spent: u64 = self.spent.iter().map(|(_, charged)| charged).sum();
        Duration::from_nanos(self.ns_per_second.saturating_sub(spent))
    }

    /// A relief is over.
    pub fn spend(&mut self, began_ns: u64, ended_ns: u64) {
        let lasted = ended_ns.saturating_sub(began_ns);
        let charged = lasted.max(SHORTEST_CHARGED.as_nanos() as u64);
        self.spent.push_back((ended_ns, charged));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_short_relief_is_charged_like_one_of_two_milliseconds() {
        let mut budget = ReliefBudget::new(Duration::from_millis(20));
        for n in 0..10 {
            assert!(budget.available(n * MS) >= SHORTEST_CHARGED, "{n}");
            budget.spend(n * MS, n * MS + 10);
        }
        assert_eq!(budget.available(10 * MS), Duration::ZERO);
        assert_eq!(budget.available(1000 * MS + 10), SHORTEST_CHARGED);
    }

    proptest! {
        /// Whoever takes all that is available whenever it is enough is off for no more than that in any second.
        #[test]
        fn no_second_has_more_than_the_budget(
            budget_ms in 2u64..500,
            attempts in proptest::collection::vec((1u64..300 * MS, 0u64..600 * MS), 1..200),
        ) {
            let mut budget = ReliefBudget::new(Duration::from_millis(budget_ms));
            let mut now = 0;
            let mut reliefs: Vec<(u64, u64)> = vec![];
            for (pause, wanted) in attempts {
                now += pause;
                let available = budget.available(now);
                if available >= SHORTEST_CHARGED {
                    let ended = now + wanted.min(available.as_nanos() as u64);
                    budget.spend(now, ended);
                    reliefs.push((now, ended));
                    now = ended;
                }
            }
            let off_in = |from: u64, to: u64| -> u64 {
                let overlap = |&(began, ended): &(u64, u64)| ended.min(to).saturating_sub(began.max(from));
                reliefs.iter().map(overlap).sum()
            };
            for &(began, ended) in &reliefs {
                for (from, to) in [(began, began + SECOND_NS), (ended.saturating_sub(SECOND_NS), ended)] {
                    prop_assert!(off_in(from, to) <= budget_ms * MS);
                }
            }
        }
    }
}
