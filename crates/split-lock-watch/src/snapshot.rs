//! What has been seen up to a moment. Its JSON is an interface: docs/watch.md.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use split_lock_model::handler::TrapOrigin;

use crate::identity::ThreadIdentity;
use crate::livelock::ThreadState;
use crate::relief::ReliefTotals;
use crate::serialize::{hexadecimal, maybe_nanos, nanos};
use crate::source::LostEvents;
use crate::thread_stats::{ThreadStats, Totals};
use crate::thread_table::ThreadId;

/// What has been seen since a watch began.
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    /// When it was made, on CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// How long has been watched.
    #[serde(rename = "wall_ns", serialize_with = "nanos")]
    pub wall: Duration,
    /// How many events were lost, for whatever reason.
    pub lost_events: u64,
    /// The same by reason.
    pub lost: LostEvents,
    /// What the watch itself takes.
    pub cost: Cost,
    /// CPUs that are in a window now.
    pub cpus_off: Vec<u32>,
    /// For how long CPUs were in windows, all together.
    #[serde(rename = "unprotected_ns", serialize_with = "nanos")]
    pub unprotected: Duration,
    /// The traps of all threads.
    pub totals: Totals,
    /// The worst first.
    pub processes: Vec<ProcessRow>,
    /// By process, in their order, and then the worst first.
    pub threads: Vec<ThreadRow>,
    /// Of how many threads there are no rows any more.
    pub threads_forgotten: u64,
    /// What was done for threads in a livelock, where that was asked for.
    pub relief: Option<ReliefTotals>,
}

/// CPU time of this process, all its threads together.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Cost {
    /// The CPU time.
    #[serde(rename = "cpu_ns", serialize_with = "nanos")]
    pub cpu: Duration,
    /// In how much time.
    #[serde(rename = "wall_ns", serialize_with = "nanos")]
    pub wall: Duration,
}

/// One thread.
#[derive(Debug, Clone, Serialize)]
pub struct ThreadRow {
    /// Its id.
    pub tid: u32,
    /// The id of its process.
    pub pid: u32,
    /// Its names.
    #[serde(flatten)]
    pub identity: ThreadIdentity,
    /// Whose split locks they are.
    #[serde(rename = "way")]
    pub origin: Option<TrapOrigin>,
    /// What has become of its traps.
    #[serde(flatten)]
    pub totals: Totals,
    /// Its state.
    pub state: ThreadState,
    /// For how long it has not got past an instruction.
    #[serde(rename = "stuck_for_ns", serialize_with = "nanos")]
    pub stuck_for: Duration,
    /// Attempts in a row that have failed.
    pub failed_in_a_row: u64,
    /// Windows in a row that it has not used, as far as can be told.
    pub unused_in_a_row: u64,
    /// How far apart the interruptions are.
    #[serde(rename = "interrupted_every_ns", serialize_with = "maybe_nanos")]
    pub interrupted_every: Option<Duration>,
    /// The instruction of its last trap, where that was seen.
    #[serde(serialize_with = "hexadecimal")]
    pub rip: Option<u64>,
    /// It is no more.
    pub ended: bool,
    /// In the last interval.
    pub traps_per_s: f64,
    /// How much of the last interval it was in the kernel's handler: 0 to 1.
    pub lost_share: f64,
}

/// A process: a virtual machine or another program, with the sums of its threads.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ProcessRow {
    /// Its id.
    pub pid: u32,
    /// The virtual machine, or else the program; empty if nobody knows.
    pub place: String,
    /// The worst of its threads'.
    pub state: ThreadState,
    /// What has become of its threads' traps.
    #[serde(flatten)]
    pub totals: Totals,
    /// In the last interval.
    pub traps_per_s: f64,
}

impl Snapshot {
    /// The threads that are alive, whatever their processes: so many at most, the worst first.
    #[must_use]
    pub fn worst_threads(&self, most: usize) -> Vec<&ThreadRow> {
        let mut alive: Vec<_> = self.threads.iter().filter(|row| !row.ended).collect();
        alive.sort_by_key(|row| row.rank());
        alive.truncate(most);
        alive
    }
}

impl ThreadRow {
    /// A thread as it is now, without what has changed in the last interval.
    #[must_use]
    pub fn new(thread: ThreadId, stats: &ThreadStats, identity: ThreadIdentity) -> Self {
        Self {
            tid: thread.tid,
            pid: thread.pid,
            identity,
            origin: stats.origin(),
            totals: *stats.totals(),
            state: stats.state(),
            stuck_for: stats.stuck_for(),
            failed_in_a_row: stats.failed_in_a_row(),
            unused_in_a_row: stats.unused_in_a_row(),
            interrupted_every: stats.interrupted_every(),
            rip: stats.rip(),
            ended: false,
            traps_per_s: 0.0,
            lost_share: 0.0,
        }
    }

    /// With what has changed since the totals were others, an interval ago.
    #[must_use]
    pub fn since(mut self, before: &Totals, interval: Duration) -> Self {
        let seconds = interval.as_secs_f64();
        if seconds > 0.0 {
            let traps = self.totals.traps.saturating_sub(before.traps);
            let lost = self.totals.lost.saturating_sub(before.lost);
            self.traps_per_s = traps as f64 / seconds;
            // A trap counts when it is over, and may have begun before.
            self.lost_share = (lost.as_secs_f64() / seconds).min(1.0);
        }
        self
    }

    /// As it was when it ended.
    #[must_use]
    pub fn ended(mut self) -> Self {
        self.ended = true;
        self.state = ThreadState::Quiet;
        self
    }

    fn rank(&self) -> Reverse<(ThreadState, Duration)> {
        Reverse((self.state, self.totals.lost))
    }
}

impl ProcessRow {
    /// The processes of these rows, the worst first; the rows are put into their order.
    #[must_use]
    pub fn group(rows: &mut [ThreadRow]) -> Vec<Self> {
        let mut processes: HashMap<u32, Self> = HashMap::new();
        for row in rows.iter() {
            let process = processes.entry(row.pid).or_default();
            process.pid = row.pid;
            if process.place.is_empty() {
                process.place = row.identity.place();
            }
            process.state = process.state.max(row.state);
            process.totals.add(&row.totals);
            process.traps_per_s += row.traps_per_s;
        }
        let mut processes: Vec<_> = processes.into_values().collect();
        processes
            .sort_by_key(|process| (Reverse((process.state, process.totals.lost)), process.pid));
        let pids = processes.iter().map(|process| process.pid);
        let ranks: HashMap<u32, usize> = pids.zip(0..).collect();
        rows.sort_by_key(|row| (ranks[&row.pid], row.ended, row.rank(), row.tid));
        processes
    }
}
