//! The comparison.

use std::collections::BTreeMap;

use serde::Serialize;

use super::line::{LIVELOCKED, Line, Row, Snapshot};
use super::{OutputLine, Run, ThreadStats};

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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WatchReport {
    /// What should be otherwise, in sentences.
    pub wrong: Vec<String>,
    /// The longest from a thread's first trap until its livelock was said.
    pub said_after_ns: Option<u64>,
    /// How far apart program and journal are, at most, about the time that a thread was in the handler.
    pub lost_apart_ns: u64,
}

/// A livelock has to be said within this time after the thread's first trap.
const SOON_NS: u64 = 1_000_000_000;

/// CPU time that a program takes between its own look at it and ours, which is printing a line.
const LOOKS_APART_NS: u64 = 5_000_000;

/// Probes of both sides lie around the same calls, one inside the other. In between the thread may have to give up the CPU
/// for a while: one part in so many of the whole time, and once in a while some ticks.
const LOST_APART_PARTS: u64 = 50;
const LOST_APART_NS: u64 = 20_000_000;

/// Holds what was said against what was done, from `first_ns` to `last_ns`.
#[must_use]
pub fn judge(
    run: &Run,
    threads: &BTreeMap<i32, ThreadStats>,
    (first_ns, last_ns): (u64, u64),
    expected: Expected,
    mode: WatchMode,
) -> WatchReport {
    let mut report = WatchReport::default();
    let lines = report.lines(run);
    report.compare_span(run, &lines, first_ns, last_ns);
    if let Some(end) = lines.iter().find_map(end) {
        report.compare_threads(&end.threads, threads, mode);
        report.compare_cost(run, end);
    }
    report.compare_livelocks(&lines, threads, expected);
    report
}

type ParsedLine<'a> = (&'a OutputLine, Line);

fn end<'a>((_, line): &'a ParsedLine<'_>) -> Option<&'a Snapshot> {
    match line {
        Line::End(snapshot) => Some(snapshot),
        _ => None,
    }
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

    fn lines<'a>(&mut self, run: &'a Run) -> Vec<ParsedLine<'a>> {
        let mut lines = Vec::new();
        for said in &run.said {
            match serde_json::from_str(&said.text) {
                Ok(line) => lines.push((said, line)),
                Err(error) => {
                    self.wrong(format!("not a line of the watch ({error}): {}", said.text));
                }
            }
        }
        lines
    }

    /// It was there the whole time, ended well, and missed nothing.
    fn compare_span(&mut self, run: &Run, lines: &[ParsedLine<'_>], first_ns: u64, last_ns: u64) {
        self.expect(run.exit_code == Some(0), || {
            let complaints = run.complaints.trim();
            format!("it ended with {:?}: {complaints}", run.exit_code)
        });
        match lines.first() {
            Some((said, Line::Start { schema_version: 1 })) => self
                .expect(said.ns < first_ns, || {
                    "it began later than what it was to watch".into()
                }),
            other => self.wrong(format!("its first line is no start: {other:?}")),
        }
        match lines.last() {
            Some((_, Line::End(end))) => self.expect(end.at_ns > last_ns, || {
                "it ended before what it was to watch".into()
            }),
            other => self.wrong(format!("its last line is no end: {other:?}")),
        }
        for (_, line) in lines {
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
        let asleep = stats.interrupted_asleep + stats.not_slept;
        self.compare_count(row, "traps", row.traps, stats.traps);
        self.compare_count(row, "interrupted sleeps", row.interrupted_asleep, asleep);
        let (said, done) = (row.interrupted_queued, stats.interrupted_queued);
        self.compare_count(row, "interrupted waits", said, done);
        let addresses = &stats.addresses;
        let is_one = |rip: &str| {
            addresses
                .iter()
                .any(|address| rip == format!("{address:#x}"))
        };
        self.expect(row.rip.as_deref().is_some_and(is_one), || {
            format!(
                "thread {} trapped at {addresses:x?}, and not at {:?}",
                row.tid, row.rip
            )
        });
        let lost_ns = stats.lost_ns;
        let apart_ns = row.lost_ns.abs_diff(lost_ns);
        self.lost_apart_ns = self.lost_apart_ns.max(apart_ns);
        let most_ns = LOST_APART_NS + lost_ns / LOST_APART_PARTS;
        self.expect(apart_ns <= most_ns, || {
            format!(
                "thread {}: {} ns lost; the kernel: {lost_ns} ns",
                row.tid, row.lost_ns
            )
        });
    }

    /// Only traps with a sleep are seen, and that the last of a thread's was interrupted is told by no other.
    fn compare_what_tracepoints_see(&mut self, row: &Row, stats: &ThreadStats) {
        let slept = stats.interrupted_asleep + stats.interrupted_queued;
        let said = row.interrupted_somewhere;
        self.expect(said == slept || said + 1 == slept, || {
            format!(
                "thread {}: {said} interrupted; the kernel: {slept}",
                row.tid
            )
        });
        self.compare_count(row, "traps", row.traps, row.windows + said);
    }

    /// It says itself what it costs, and that is so.
    fn compare_cost(&mut self, run: &Run, end: &Snapshot) {
        let (said, took) = (end.cost.cpu_ns, run.cpu_meanwhile_ns());
        self.expect(said.abs_diff(took) <= LOOKS_APART_NS, || {
            format!("it says that it took {said} ns of CPU time; the kernel: {took} ns")
        });
    }

    fn compare_livelocks(
        &mut self,
        lines: &[ParsedLine<'_>],
        threads: &BTreeMap<i32, ThreadStats>,
        expected: Expected,
    ) {
        for (tid, stats) in threads {
            let said = lines
                .iter()
                .find_map(|(said, line)| says_livelock(line, *tid).then_some(said.ns));
            match (expected, said) {
                (Expected::Livelock, Some(ns)) => {
                    let after_ns = ns.saturating_sub(stats.first_ns);
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

fn says_livelock(line: &Line, tid: i32) -> bool {
    match line {
        Line::Start { .. } => false,
        Line::State { tid: other, to } => *other == tid && to == LIVELOCKED,
        Line::Sample(snapshot) | Line::End(snapshot) => snapshot
            .threads
            .iter()
            .any(|row| row.tid == tid && row.state == LIVELOCKED),
    }
}
