//! What a trap costs, from the model.

use serde::Serialize;
use split_lock_model::analysis::Thresholds;
use split_lock_model::kernel::Profile;
use split_lock_model::time::Nanos;

use crate::Condition;
use crate::Facts;

/// From one duration to another, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DurationRange {
    /// It is longer than this.
    pub longer_than: Nanos,
    /// It is no longer than this.
    pub at_most: Nanos,
}

/// What one trap costs on this kernel, by the model; where something about the kernel is not known, over all
/// that it may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cost {
    /// A sleep before the instruction, which signals interrupt.
    Trap {
        /// The sleep.
        sleep: DurationRange,
        /// How long the core may then do what it likes.
        window: DurationRange,
        /// A thread that gets signals at this distance, or a smaller one, never gets past.
        never_up_to: Nanos,
        /// A thread that gets signals at this distance, or a larger one, gets past if no other splits locks.
        always_from: Nanos,
        /// What the model was asked for.
        kernels: Vec<Profile>,
    },
    /// A sleep after the instruction, which signals do not interrupt.
    RateLimited {
        /// The sleep, which is repeated until the rate allows another.
        sleep: DurationRange,
        /// What the model was asked for.
        kernels: Vec<Profile>,
    },
}

impl Cost {
    pub(super) fn of(condition: Condition, facts: &Facts) -> Option<Self> {
        match condition {
            Condition::Livelock => Self::of_trap(facts.possible_kernels()),
            Condition::Slowdown { .. } => Self::of_bus_lock(facts.possible_kernels()),
            _ => None,
        }
    }

    fn of_trap(kernels: Vec<Profile>) -> Option<Self> {
        let limits: Vec<_> = kernels.iter().filter_map(Thresholds::of).collect();
        Some(Cost::Trap {
            sleep: span(limits.iter().map(Thresholds::sleep))?,
            window: span(limits.iter().map(Thresholds::window))?,
            never_up_to: limits.iter().map(Thresholds::never_up_to).min()?,
            always_from: limits.iter().map(Thresholds::always_from).max()?,
            kernels,
        })
    }

    fn of_bus_lock(kernels: Vec<Profile>) -> Option<Self> {
        const SLEEP_MS: u64 = 20;
        let sleeps = kernels.iter().map(|kernel| {
            let hz = kernel.hz();
            let ticks = kernel.features().msleep_ticks(SLEEP_MS, hz);
            let tick_ns = 1_000_000_000 / u64::from(hz.get());
            (Nanos(ticks.0 * tick_ns), Nanos((ticks.0 + 1) * tick_ns))
        });
        Some(Cost::RateLimited {
            sleep: span(sleeps)?,
            kernels,
        })
    }
}

fn span(spans: impl Iterator<Item = (Nanos, Nanos)> + Clone) -> Option<DurationRange> {
    Some(DurationRange {
        longer_than: spans.clone().map(|(longer_than, _)| longer_than).min()?,
        at_most: spans.map(|(_, at_most)| at_most).max()?,
    })
}
