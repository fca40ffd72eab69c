//! What `splitlock watch` says while the kernel punishes, held against the journal of what the kernel did.
//!
//! The program runs in the machine beside an experiment that begins after it and ends before it. So each trap of the
//! journal is one that it must have seen, and it can have seen no other.

mod judge;
mod line;
mod thread_stats;

use serde::{Deserialize, Serialize};

pub use judge::{Expected, WatchMode, WatchReport, judge};
pub use thread_stats::{ThreadStats, thread_stats};

/// One line that the program has printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputLine {
    /// When it came out, on CLOCK_MONOTONIC.
    pub ns: u64,
    /// CPU time that all threads of the program together had taken by then.
    pub cpu_ns: u64,
    /// What it says.
    pub text: String,
}

/// A run of the program, from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// What it printed.
    pub said: Vec<OutputLine>,
    /// What it complained about.
    pub complaints: String,
    /// Its exit code; none if a signal ended it.
    pub exit_code: Option<i32>,
    /// CPU time that it had taken at its end.
    pub cpu_ns: u64,
}

impl Run {
    /// CPU time until it had said its first line: what it takes to switch everything on.
    #[must_use]
    pub fn cpu_before_ns(&self) -> u64 {
        self.said.first().map_or(self.cpu_ns, |said| said.cpu_ns)
    }

    /// CPU time from its first line to its last one: what it takes to watch.
    #[must_use]
    pub fn cpu_meanwhile_ns(&self) -> u64 {
        let last = self.said.last().map_or(self.cpu_ns, |said| said.cpu_ns);
        last - self.cpu_before_ns()
    }

    /// CPU time after its last line: what it takes to switch everything off.
    #[must_use]
    pub fn cpu_afterwards_ns(&self) -> u64 {
        self.cpu_ns - self.cpu_before_ns() - self.cpu_meanwhile_ns()
    }
}
