//! What the handler remembers about a thread.

use super::wait::Wait;
use crate::time::Jiffies;

/// A thread, in the order in which the handler got to know them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u32);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) stage: Stage,
    /// `reported_split_lock`: set even if the line was rate-limited away (5.19).
    pub(super) reported: bool,
    /// TIF_SLD, inverted: detection is off for this thread (5.7 to 5.18).
    pub(super) exempt: bool,
    /// What is left of a punishment that a signal interrupted, if the rules carry it over.
    pub(super) carried: Option<Carried>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not in the handler.
    #[default]
    Running,
    /// In the sleep that asked the timer wheel for `expires`.
    Asleep { expires: Jiffies, wait: Wait },
    /// In the semaphore's queue.
    Queued { wait: Wait },
    /// Holds the semaphore, handed over while it waited; has not run since.
    Granted,
    /// In the bus-lock rate limit's sleep, which ends at this tick.
    Throttled { wake: Jiffies },
    /// Ended.
    Gone,
}

/// What is left of an interrupted punishment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    /// No sleep at all: only the semaphore is missing.
    Nothing,
    /// Ticks of sleep still owed.
    Ticks(Jiffies),
    /// The punishment is over after this tick, however the thread spends the time.
    Until(Jiffies),
}
