//! Lines of JSON, as far as they are compared. Whatever else is in them may be.

use serde::Deserialize;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum Line {
    /// From now on everything is seen.
    Start {
        /// Of the layout of the lines.
        schema_version: u32,
        /// The moment, on CLOCK_MONOTONIC.
        at_ns: u64,
    },
    /// A thread fares otherwise than before.
    State {
        at_ns: u64,
        tid: i32,
        to: String,
    },
    Sample(Snapshot),
    End(Snapshot),
}

/// Totals since the start.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Snapshot {
    /// The moment, on CLOCK_MONOTONIC.
    pub(super) at_ns: u64,
    pub(super) lost_events: u64,
    /// What watching took.
    pub(super) cost: Cost,
    /// All that met detection.
    pub(super) threads: Vec<Row>,
}

/// What watching takes, as the program itself has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Cost {
    /// CPU time of all its threads, in nanoseconds, since it began to watch.
    pub(super) cpu_ns: u64,
}

/// One thread.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Row {
    pub(super) tid: i32,
    /// `guest` or `user`.
    pub(super) way: Option<String>,
    /// All of them.
    pub(super) traps: u64,
    /// Of them, those whose sleep a signal cut short, or prevented,
    pub(super) interrupted_asleep: u64,
    /// whose wait for the semaphore it ended,
    pub(super) interrupted_queued: u64,
    /// that it sent back from somewhere,
    pub(super) interrupted_somewhere: u64,
    /// and those that ended with a window.
    pub(super) windows: u64,
    /// How long the handler had the thread.
    pub(super) lost_ns: u64,
    pub(super) state: String,
    /// The instruction, `0x...`.
    pub(super) rip: Option<String>,
}

/// A thread that does not get past its split lock, and will not.
pub(super) const LIVELOCKED: &str = "livelocked";
