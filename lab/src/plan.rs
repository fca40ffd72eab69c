//! Experiments: what the booted machine is to try.

use serde::{Deserialize, Serialize};
use split_lock_model::handler::TrapOrigin;

/// Threads that split locks, and what disturbs them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Experiment {
    /// A short name, unique in its script.
    pub name: String,
    /// `kernel.split_lock_mitigate`.
    pub mitigate: bool,
    /// Whether the threads split locks themselves, or their guests do.
    pub origin: TrapOrigin,
    /// What they do.
    pub workload: Workload,
}

/// What the threads of an experiment do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// One thread, one trap at a time, each followed by one signal: every timeout at every phase.
    Single {
        /// Microseconds from just before the trap to the signal.
        timeouts_us: Vec<u64>,
        /// Moments within a tick at which the trap is made, evenly spread.
        phases: u32,
    },
    /// All threads at once.
    Loop {
        /// For how long.
        ms: u64,
        /// The threads.
        threads: Vec<Thread>,
        /// All of it as often as that, begun at moments within a tick that are evenly spread.
        phases: u32,
    },
}

/// One thread of a [`Workload::Loop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// The CPU that it stays on.
    pub cpu: u16,
    /// What signals it gets.
    pub kick: Kick,
    /// How long it sleeps after each split lock, in milliseconds.
    pub pause_ms: u64,
}

/// Signals for a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kick {
    /// Only one, at the end of the experiment.
    Never,
    /// One every so many microseconds of wall time.
    Every(u64),
    /// One every so many microseconds of the thread's own CPU time.
    EveryCpu(u64),
}

/// What the machine says of an experiment, beside the kernel's trace of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Split locks that the threads or their guests have completed.
    pub completed: u64,
    /// SIGBUS that the threads got.
    pub sigbus: u64,
    /// Times that KVM_RUN gave up with KVM_EXIT_EXCEPTION.
    pub exceptions: u64,
    /// Events that found the kernel's trace buffer full.
    pub lost_events: u64,
    /// Calls that the kernel's probes missed.
    pub missed_probes: u64,
}
