//! The second livelock: a semaphore that others keep busy.
//!
//! A thread whose period outlasts its sleep can still be interrupted while it queues behind `k`
//! other threads that split without pause on other cores. Once those have settled:
//!
//! * If `3k <= T + 4`, each of them finds the semaphore free when it wakes up. A newcomer meets at
//!   most one holder, and waits at most its 3 ticks.
//! * Otherwise the semaphore is always taken. One of the others needs `3k - 3` ticks from its trap
//!   to its window, of which it sleeps T + 1 and queues the rest. A newcomer joins the same queue
//!   at any of the 3 ticks of a window, and may lose a tie: its window opens at the tick number
//!   `3k - 3` to `3k` after its trap, of which the first comes after more than `3k - 4` ticks.

use serde::Serialize;

use super::thresholds::{Thresholds, WINDOW};
use crate::time::{Jiffies, Nanos};

/// One thread with a signal period, against others that split without pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Contended {
    /// How many others, each on its own core.
    pub others: u32,
    /// With a signal this long after its trap, the thread never gets through, whatever the
    /// alignment.
    pub never_up_to: Nanos,
    /// With a signal this long after its trap, the thread always gets through once the others have
    /// settled: the smallest safe period. Between the two, some alignments get through, and a
    /// period in resonance with the others' cycle may miss every time.
    pub safe_from: Nanos,
    /// With a signal this long after its trap, the very first trap gets through, even if all the
    /// others line up just before it.
    pub first_trap_safe_from: Nanos,
}

impl Thresholds {
    /// What `others` threads that split without pause do to a thread with a signal period.
    ///
    /// ```
    /// use split_lock_model::analysis::Thresholds;
    /// use split_lock_model::time::Nanos;
    ///
    /// let limits = Thresholds::of(&"6.1.192,hz=250".parse()?).expect("this kernel sleeps");
    /// assert_eq!(limits.contended(0).safe_from, Nanos::from_millis(16));
    /// assert_eq!(limits.contended(1).safe_from, Nanos::from_millis(32));
    /// assert_eq!(limits.contended(6).safe_from, Nanos::from_millis(72));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn contended(&self, others: u32) -> Contended {
        if others == 0 {
            return Contended {
                others,
                never_up_to: self.never_up_to(),
                safe_from: self.always_from(),
                first_trap_safe_from: self.always_from(),
            };
        }
        let (hz, sleep) = (self.hz(), self.sleep_ticks().0);
        let served = WINDOW.0 * u64::from(others);
        let alone = sleep + 1 + WINDOW.0;
        let never = if served <= alone {
            sleep - 1
        } else {
            served - WINDOW.0 - 1
        };
        Contended {
            others,
            never_up_to: hz.shortest_span(Jiffies(never)),
            safe_from: hz.longest_span(Jiffies(alone.max(served))),
            first_trap_safe_from: hz.longest_span(Jiffies(sleep + 1 + served)),
        }
    }
}
