//! What `splitlock watch` says while the kernel punishes, held against the journal of what the kernel did.
//!
//! The program runs in the machine beside an experiment that begins after it and ends before it. So each trap of the
//! journal is one that it must have seen, and it can have seen no other.

mod account;
mod judge;
mod line;

use serde::{Deserialize, Serialize};

pub use account::{Account, accounts};
pub use judge::{Expected, Judgement, judge};
pub use line::{Cost, Line, Row};

/// One line that the program has printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// When it came out, on CLOCK_MONOTONIC.
    pub ns: u64,
    /// What it says.
    pub text: String,
}

/// A run of the program, from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// What it printed.
    pub said: Vec<Said>,
    /// What it complained about.
    pub complaints: String,
    /// Its exit code; none if a signal ended it.
    pub exit_code: Option<i32>,
    /// CPU time of all its threads when it had said its first line.
    pub cpu_until_start_ns: u64,
    /// And at its end.
    pub cpu_ns: u64,
}
