//! How much is measured.

use std::time::Duration;

/// How long, and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Of short things.
    pub(crate) short_rounds: usize,
    /// Of spans with several punishments.
    pub(crate) rounds: usize,
    /// What a span is divided by.
    pub(crate) hurry: u32,
    /// Of guests and the like, only the first of so many is measured.
    pub(crate) one_of: usize,
    /// How long a guard is left to make up its mind.
    pub(crate) settling: Duration,
}

impl Extent {
    /// Six minutes.
    pub(crate) const FULL: Self = Self {
        short_rounds: 50,
        rounds: 5,
        hurry: 1,
        one_of: 1,
        settling: Duration::from_millis(1000),
    };
    /// A tenth of that.
    pub(crate) const QUICK: Self = Self {
        short_rounds: 10,
        rounds: 2,
        hurry: 4,
        one_of: 2,
        settling: Duration::from_millis(750),
    };
    /// To see whether it runs.
    pub(crate) const NONE: Self = Self {
        short_rounds: 2,
        rounds: 1,
        hurry: 20,
        one_of: 4,
        settling: Duration::ZERO,
    };

    pub(crate) fn choose<T: Copy>(&self, all: &[T]) -> impl Iterator<Item = T> {
        all.iter().copied().step_by(self.one_of)
    }
}
