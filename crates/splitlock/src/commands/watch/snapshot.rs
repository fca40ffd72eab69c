//! What has been seen up to a moment. Its JSON is an interface: docs/watch.md.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use serde::{Serialize, Serializer};
use split_lock_watch::{Account, Key, Lost, State, Totals, Way};

use super::people::Person;

/// Everything that is shown, printed and served.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Snapshot {
    /// On CLOCK_MONOTONIC.
    pub(super) at_ns: u64,
    /// How long has been watched.
    #[serde(rename = "wall_ns", serialize_with = "nanos")]
    pub(super) wall: Duration,
    pub(super) lost_events: u64,
    pub(super) lost: Lost,
    pub(super) cost: Cost,
    /// CPUs that are in a window now.
    pub(super) cpus_off: Vec<u32>,
    /// For how long CPUs were in windows, all together.
    #[serde(rename = "unprotected_ns", serialize_with = "nanos")]
    pub(super) unprotected: Duration,
    pub(super) totals: Totals,
    pub(super) processes: Vec<Group>,
    pub(super) threads: Vec<Row>,
    /// Of how many threads there are no rows any more.
    pub(super) threads_forgotten: u64,
}

/// What the watch itself takes.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Cost {
    #[serde(rename = "cpu_ns", serialize_with = "nanos")]
    pub(super) cpu: Duration,
    #[serde(rename = "wall_ns", serialize_with = "nanos")]
    pub(super) wall: Duration,
}

/// One thread.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) tid: u32,
    pub(super) pid: u32,
    #[serde(flatten)]
    pub(super) person: Person,
    pub(super) way: Option<Way>,
    #[serde(flatten)]
    pub(super) totals: Totals,
    pub(super) state: State,
    #[serde(rename = "stuck_for_ns", serialize_with = "nanos")]
    pub(super) stuck_for: Duration,
    /// Attempts in a row that have failed.
    pub(super) failed_in_a_row: u64,
    #[serde(rename = "interrupted_every_ns", serialize_with = "maybe_nanos")]
    pub(super) interrupted_every: Option<Duration>,
    #[serde(serialize_with = "hexadecimal")]
    pub(super) rip: Option<u64>,
    /// It is no more.
    pub(super) ended: bool,
    /// In the last interval.
    pub(super) traps_per_s: f64,
    /// How much of the last interval it was in the kernel's handler: 0 to 1.
    pub(super) lost_share: f64,
}

/// A process: a virtual machine or another program, with the sums of its threads.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Group {
    pub(super) pid: u32,
    pub(super) place: String,
    /// The worst of its threads'.
    pub(super) state: State,
    #[serde(flatten)]
    pub(super) totals: Totals,
    pub(super) traps_per_s: f64,
}

impl Row {
    pub(super) fn new(thread: Key, account: &Account, person: Person) -> Self {
        Self {
            tid: thread.tid,
            pid: thread.pid,
            person,
            way: account.way(),
            totals: *account.totals(),
            state: account.state(),
            stuck_for: account.stuck_for(),
            failed_in_a_row: account.failed_in_a_row(),
            interrupted_every: account.interrupted_every(),
            rip: account.rip(),
            ended: false,
            traps_per_s: 0.0,
            lost_share: 0.0,
        }
    }

    /// With what has changed since the totals were others.
    pub(super) fn since(mut self, before: &Totals, interval: Duration) -> Self {
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
    pub(super) fn ended(mut self) -> Self {
        self.ended = true;
        self.state = State::Quiet;
        self
    }
}

/// The rows of each process together, the worst first.
pub(super) fn group(rows: &mut [Row]) -> Vec<Group> {
    let mut groups: HashMap<u32, Group> = HashMap::new();
    for row in rows.iter() {
        let group = groups.entry(row.pid).or_insert_with(|| Group::new(row.pid));
        if group.place.is_empty() {
            group.place = row.person.place();
        }
        group.state = group.state.max(row.state);
        group.totals.add(&row.totals);
        group.traps_per_s += row.traps_per_s;
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|group| (Reverse((group.state, group.totals.lost)), group.pid));
    let ranks: HashMap<u32, usize> = groups.iter().map(|group| group.pid).zip(0..).collect();
    rows.sort_by_key(|row| (ranks[&row.pid], row.ended, worst_first(row), row.tid));
    groups
}

/// In which order threads are shown, whatever their processes.
pub(super) fn worst_first(row: &Row) -> Reverse<(State, Duration)> {
    Reverse((row.state, row.totals.lost))
}

impl Group {
    fn new(pid: u32) -> Self {
        Self {
            pid,
            place: String::new(),
            state: State::Quiet,
            totals: Totals::default(),
            traps_per_s: 0.0,
        }
    }
}

fn nanos<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
}

fn maybe_nanos<S: Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    match span {
        Some(span) => nanos(span, to),
        None => to.serialize_none(),
    }
}

fn hexadecimal<S: Serializer>(address: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => to.collect_str(&format_args!("{address:#x}")),
        None => to.serialize_none(),
    }
}
