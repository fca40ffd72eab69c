//! The comparison.

use std::collections::BTreeMap;

use super::ThreadStats;
use super::line::{LIVELOCKED, Line, Row};
use crate::cpu::trace::hexadecimal;

/// What has to be said of an experiment's threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Every one of them is in a livelock, and that soon.
    Livelock,
    /// None is.
    Progress,
    /// Whether one is, is a matter of taste: signals disturb it, and it gets past now and then.
    Either,
}

/// What the program sees by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchMode {
    /// Probes: everything.
    Probes,
    /// Tracepoints alone: sleeps and windows.
    Tracepoints,
}

/// What came of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchReport {
    /// What should be otherwise, in sentences.
    pub wrong: Vec<String>,
    /// The longest from a thread's first trap until its livelock was said.
    pub said_after_ns: Option<u64>,
    /// CPU time that the program says it took while it watched.
    pub cpu_ns: u64,
}

/// A livelock has to be said within this time after the thread's first trap.
const SOON_NS: u64 = 1_000_000_000;

/// Probes of both sides lie around the same calls, one inside the other. In between the thread may have to give up the CPU
/// for a while: one part in so many of the whole time, and once in a while some ticks.
const LOST_APART_PARTS: u64 = 50;
const LOST_APART_NS: u64 = 20_000_000;

/// Holds what was said, line by line, against what was done.
#[must_use]
pub fn judge(
    said: &str,
    threads: &BTreeMap<i32, ThreadStats>,
    expected: Expected,
    mode: WatchMode,
) -> WatchReport {
    let mut report = WatchReport::default();
    let lines = report.lines(said);
    report.compare_span(&lines, threads);
    if let Some(Line::End(end)) = lines.last() {
        report.compare_threads(&end.threads, threads, mode);
        report.cpu_ns = end.cost.cpu_ns;
    }
    report.compare_livelocks(&lines, threads, expected);
    report
}

impl WatchReport {
    fn wrong(&mut self, what: impl Into<String>) {
        self.wrong.push(what.into());
    }

    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong(what());
        }
    }

    fn lines(&mut self, said: &str) -> Vec<Line> {
        let mut lines = Vec::new();
        for text in said.lines() {
            match serde_json::from_str(text) {
                Ok(line) => lines.push(line),
                Err(error) => self.wrong(format!("not a line of the watch ({error}): {text}")),
            }
        }
        lines
    }

    /// It was there the whole time, and missed nothing.
    fn compare_span(&mut self, lines: &[Line], threads: &BTreeMap<i32, ThreadStats>) {
        let first_ns = threads.values().map(|stats| stats.first_ns).min();
        let last_ns = threads.values().map(|stats| stats.last_ns).max();
        self.expect(first_ns.is_some(), || "nobody has trapped".into());
        match lines.first() {
            Some(&Line::Start {
                schema_version: 1,
                at_ns,
            }) => self.expect(first_ns > Some(at_ns), || {
                "it began later than what it was to watch".into()
            }),
            other => self.wrong(format!("its first line is no start: {other:?}")),
        }
        match lines.last() {
            Some(Line::End(end)) => self.expect(last_ns < Some(end.at_ns), || {
                "it ended before what it was to watch".into()
            }),
            other => self.wrong(format!("its last line is no end: {other:?}")),
        }
        for line in lines {
            if let Line::Sample(snapshot) | Line::End(snapshot) = line {
                self.expect(snapshot.lost_events == 0, || {
                    format!("{} events lost", snapshot.lost_events)
                });
            }
        }
    }

    fn compare_threads(
        &mut self,
        rows: &[Row],
        threads: &BTreeMap<i32, ThreadStats>,
        mode: WatchMode,
    ) {
        for row in rows {
            match threads.get(&row.tid) {
                Some(stats) => self.compare_thread(row, stats, mode),
                None => self.wrong(format!("thread {} has not trapped", row.tid)),
            }
        }
        for tid in threads.keys() {
            let rows = rows.iter().filter(|row| row.tid == *tid).count();
            self.expect(rows == 1, || format!("{rows} rows for thread {tid}"));
        }
    }

    fn compare_thread(&mut self, row: &Row, stats: &ThreadStats, mode: WatchMode) {
        let way = if stats.guest { "guest" } else { "user" };
        self.expect(row.way.as_deref() == Some(way), || {
            format!("thread {} is a {way}, and not {:?}", row.tid, row.way)
        });
        self.compare_count(row, "windows", row.windows, stats.windows);
        match mode {
            WatchMode::Probes => self.compare_what_probes_see(row, stats),
            WatchMode::Tracepoints => self.compare_what_tracepoints_see(row, stats),
        }
    }

    fn compare_count(&mut self, row: &Row, name: &str, said: u64, done: u64) {
        self.expect(said == done, || {
            format!("thread {}: {said} {name}; the kernel: {done}", row.tid)
        });
    }

    fn compare_what_probes_see(&mut self, row: &Row, stats: &ThreadStats) {
        self.compare_count(row, "traps", row.traps, stats.traps());
        let asleep = stats.interrupted_asleep + stats.not_slept;
        let (said, done) = (row.interrupted_asleep, asleep);
        self.compare_count(row, "interrupted sleeps", said, done);
        let (said, done) = (row.interrupted_queued, stats.interrupted_queued);
        self.compare_count(row, "interrupted waits", said, done);
        let addresses = &stats.addresses;
        let is_one = |rip: &str| hexadecimal(rip).is_some_and(|rip| addresses.contains(&rip));
        self.expect(row.rip.as_deref().is_some_and(is_one), || {
            format!("thread {} did not trap at {:?}", row.tid, row.rip)
        });
        let lost_ns = stats.lost_ns;
        let most_ns = LOST_APART_NS + lost_ns / LOST_APART_PARTS;
        self.expect(row.lost_ns.abs_diff(lost_ns) <= most_ns, || {
            format!(
                "thread {}: {} ns lost; the kernel: {lost_ns} ns",
                row.tid, row.lost_ns
            )
        });
    }

    /// Only traps with a sleep are seen, and that the last of a thread's was interrupted is told by no other.
    fn compare_what_tracepoints_see(&mut self, row: &Row, stats: &ThreadStats) {
        let interrupted = stats.interrupted_asleep + stats.interrupted_queued;
        let said = row.interrupted_somewhere;
        self.expect(said == interrupted || said + 1 == interrupted, || {
            format!(
                "thread {}: {said} interrupted; the kernel: {interrupted}",
                row.tid
            )
        });
        self.compare_count(row, "traps", row.traps, row.windows + said);
    }

    fn compare_livelocks(
        &mut self,
        lines: &[Line],
        threads: &BTreeMap<i32, ThreadStats>,
        expected: Expected,
    ) {
        for (tid, stats) in threads {
            let said = lines.iter().find_map(|line| says_livelock(line, *tid));
            match (expected, said) {
                (Expected::Livelock, Some(at_ns)) => {
                    let after_ns = at_ns.saturating_sub(stats.first_ns);
                    self.said_after_ns = self.said_after_ns.max(Some(after_ns));
                    self.expect(after_ns <= SOON_NS, || {
                        format!("thread {tid}: a livelock only {after_ns} ns after its first trap")
                    });
                }
                (Expected::Livelock, None) => self.wrong(format!("thread {tid}: no livelock")),
                (Expected::Progress, Some(_)) => {
                    self.wrong(format!("thread {tid}: a livelock, and it gets past"));
                }
                (Expected::Progress, None) | (Expected::Either, _) => {}
            }
        }
    }
}

/// When, if it does.
fn says_livelock(line: &Line, tid: i32) -> Option<u64> {
    match line {
        Line::Start { .. } => None,
        Line::State {
            at_ns,
            tid: other,
            to,
        } => (*other == tid && to == LIVELOCKED).then_some(*at_ns),
        Line::Sample(snapshot) | Line::End(snapshot) => {
            let mut rows = snapshot.threads.iter();
            let is_it = |row: &Row| row.tid == tid && row.state == LIVELOCKED;
            rows.any(is_it).then_some(snapshot.at_ns)
        }
    }
}
