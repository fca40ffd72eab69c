//! What came of a comparison.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One journal against the model.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Every trap, in the order in which they ended.
    pub traps: Vec<TrapRow>,
    /// Every disagreement.
    pub mismatches: Vec<Mismatch>,
    /// Bus locks that met a debug exception.
    pub bus_locks: u64,
    /// Sleeps of the rate limit.
    pub throttled: u64,
    /// Split locks that were let through on a CPU without a window of its own: in that of its sibling, or where
    /// nothing detects.
    pub without_own_window: u64,
    /// Work that ran on another CPU than its window's: the one where it had last been run, by a worker
    /// that had not come back from it. The model does what that leads to, and does not foresee it.
    pub misplaced_work: u64,
    /// What was let pass.
    pub allowed: Allowed,
}

/// One trap, as the kernel treated it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrapRow {
    /// The last mark before it.
    pub mark: Option<i64>,
    /// When, in the machine's time.
    pub ns: u64,
    /// The thread.
    pub pid: i32,
    /// Its CPU.
    pub cpu: u16,
    /// How the handler ended.
    pub verdict: Verdict,
    /// From the trap to the note of its sleep's timer: between them the kernel reads the ticks that the sleep begins at.
    pub asleep_after_ns: Option<u64>,
    /// From the trap to the note of its sleep's end: right before it the kernel reads the ticks once more.
    pub awake_after_ns: Option<u64>,
    /// Ticks counted while it slept.
    pub slept_ticks: Option<u64>,
    /// Ticks counted while it queued.
    pub queued_ticks: Option<u64>,
    /// Ticks from opening its window until the timer of the re-enable work expired. Noted when that
    /// happens; none if it never did.
    pub window_ticks: Option<u64>,
    /// From the trap to the first signal that came before the handler was done.
    pub signal_after_ns: Option<u64>,
}

/// How the handler ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// With a window.
    Passed,
    /// Because a signal was there before the sleep.
    NoSleep,
    /// Because a signal cut the sleep short.
    CutShort,
    /// Because a signal came at the semaphore.
    LeftQueue,
    /// With SIGBUS.
    Sigbus,
}

/// A disagreement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// When, in the machine's time.
    pub ns: u64,
    /// The thread.
    pub pid: i32,
    /// What the kernel did and what the model says.
    pub what: String,
}

/// Differences that are no disagreement. Each has one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// A tick came between two notes of one step of the handler, and the kernel has used the count before it. It
    /// reads its count between the notes, so each count from one to the other may be the one that it used; no other.
    pub tick_within_step: u64,
    /// A thread joined or left the semaphore's queue between somebody's taking or releasing it and the
    /// note of that, which comes later or earlier by some microseconds. The order of the queue itself
    /// is noted while the semaphore is locked, and is never allowed to differ; and nobody who is first
    /// in line is passed over without a signal.
    pub races: u64,
    /// A timer expired one tick late, and it was another CPU that had counted its tick. All CPUs have their interrupt for a
    /// tick at the same moment; the timer's own came before the count, and found nothing due.
    pub counted_elsewhere: u64,
    /// The re-enable work ran in a later tick than its timer expired in: its worker had to wait for
    /// the CPU. The window is longer by that; the model knows a worker's latency as a cost.
    pub late_workers: u64,
    /// The longest that a worker took, from its timer to its work.
    pub slowest_worker_ns: u64,
    /// An interrupted thread ran, and looked at the ticks, in a later tick than its signal came in.
    pub late_threads: u64,
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ticks within a step, {} races for the semaphore's queue, {} timers whose tick another CPU counted, {} late workers (slowest {} us), {} late threads",
            self.tick_within_step,
            self.races,
            self.counted_elsewhere,
            self.late_workers,
            self.slowest_worker_ns / 1000,
            self.late_threads
        )
    }
}

impl Report {
    /// Traps with this verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        let matching = self.traps.iter().filter(|trap| trap.verdict == verdict);
        matching.count()
    }
}

impl Allowed {
    /// Adds another one's.
    pub fn absorb(&mut self, other: Self) {
        self.tick_within_step += other.tick_within_step;
        self.races += other.races;
        self.counted_elsewhere += other.counted_elsewhere;
        self.late_workers += other.late_workers;
        self.slowest_worker_ns = self.slowest_worker_ns.max(other.slowest_worker_ns);
        self.late_threads += other.late_threads;
    }
}
