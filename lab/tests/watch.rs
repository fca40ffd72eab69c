//! What is held against a watch: one that says what the kernel did is believed, and none that says anything else.

mod recorded;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use split_lock_lab::watch::{
    Expected, OutputLine, Run, ThreadStats, WatchMode, WatchReport, judge, thread_stats,
};

use recorded::Recorded;

const MS: u64 = 1_000_000;
/// What it took to begin, and to watch.
const BEFORE_NS: u64 = 10 * MS;
const CPU_NS: u64 = 60 * MS;

/// A watch that has seen it all.
struct WatchedExperiment {
    threads: BTreeMap<i32, ThreadStats>,
    span: (u64, u64),
    lines: Vec<Value>,
}

impl WatchedExperiment {
    /// It says of the first thread, if of any, that it is in a livelock.
    fn new(recorded: &Recorded, livelock: Option<u64>) -> Self {
        let threads = thread_stats(&recorded.journal, &recorded.report().traps);
        let journal = &recorded.journal;
        let (first, last) = (journal[0].ns, journal[journal.len() - 1].ns);
        let rows: Vec<Value> = threads
            .iter()
            .map(|(tid, stats)| row(*tid, stats))
            .collect();
        let mut lines =
            vec![json!({"event": "start", "schema_version": 1, "at_ns": first - MS, "hz": 250})];
        if let (Some(after_ns), Some((tid, stats))) = (livelock, threads.iter().next()) {
            let at_ns = stats.first_ns + after_ns;
            lines.push(json!({"event": "state", "at_ns": at_ns, "tid": tid, "from": "held_up", "to": "livelocked"}));
        }
        for event in ["sample", "end"] {
            let cost = json!({"cpu_ns": CPU_NS - MS, "wall_ns": 5_000 * MS});
            lines.push(json!({"event": event, "at_ns": last + MS, "lost_events": 0, "cost": cost, "threads": rows}));
        }
        Self {
            threads,
            span: (first, last),
            lines,
        }
    }

    fn kicked() -> Self {
        Self::new(&Recorded::kicked(), None)
    }

    fn run(&self) -> Run {
        let said = self
            .lines
            .iter()
            .enumerate()
            .map(|(index, line)| OutputLine {
                ns: line["at_ns"].as_u64().expect("a moment"),
                cpu_ns: if index == 0 {
                    BEFORE_NS
                } else {
                    BEFORE_NS + CPU_NS
                },
                text: line.to_string(),
            });
        Run {
            said: said.collect(),
            complaints: String::new(),
            exit_code: Some(0),
            cpu_ns: BEFORE_NS + CPU_NS + MS,
        }
    }

    fn judge(&self, run: &Run, expected: Expected) -> WatchReport {
        judge(run, &self.threads, self.span, expected, WatchMode::Probes)
    }

    fn judged(&self, expected: Expected) -> WatchReport {
        self.judge(&self.run(), expected)
    }

    /// With something else in its last line.
    fn claiming(mut self, place: &str, value: impl Into<Value>) -> Self {
        let end = self.lines.last_mut().expect("an end");
        *end.pointer_mut(place).expect("a place") = value.into();
        self
    }
}

fn row(tid: i32, stats: &ThreadStats) -> Value {
    json!({
        "tid": tid,
        "pid": 1,
        "comm": "init",
        "way": if stats.guest { "guest" } else { "user" },
        "traps": stats.traps,
        "interrupted_asleep": stats.interrupted_asleep + stats.not_slept,
        "interrupted_queued": stats.interrupted_queued,
        "interrupted_somewhere": 0,
        "windows": stats.windows,
        "lost_ns": stats.lost_ns,
        "state": "slowed",
        "rip": format!("{:#x}", stats.addresses[0]),
    })
}

#[test]
fn what_the_kernel_did_is_believed() {
    for recorded in Recorded::all() {
        let report = WatchedExperiment::new(&recorded, None).judged(Expected::Progress);
        assert_eq!(report.wrong, [""; 0], "{}", recorded.profile);
        assert_eq!(report.lost_apart_ns, 0);
    }
}

#[test]
fn journals_add_up() {
    let recorded = Recorded::some_interrupted();
    let threads = thread_stats(&recorded.journal, &recorded.report().traps);
    assert_eq!(threads.len(), 4);
    let sum = |of: fn(&ThreadStats) -> u64| threads.values().map(of).sum::<u64>();
    let ends = sum(|stats| {
        stats.windows + stats.interrupted_asleep + stats.interrupted_queued + stats.not_slept
    });
    assert_eq!(sum(|stats| stats.traps), ends);
    assert!(sum(|stats| stats.interrupted_queued) > 0);
    // Four threads that are punished most of a second each.
    let lost_ms = sum(|stats| stats.lost_ns) / MS;
    assert!((2_000..4_100).contains(&lost_ms), "{lost_ms}");
}

#[test]
fn anything_else_is_noticed() {
    for (place, value) in [
        ("/lost_events", json!(1)),
        ("/at_ns", json!(0)),
        ("/cost/cpu_ns", json!(CPU_NS + 11 * MS)),
        ("/cost/cpu_ns", json!(CPU_NS - 11 * MS)),
        ("/threads", json!([])),
        ("/threads/0/tid", json!(7)),
        ("/threads/0/way", json!("user")),
        ("/threads/0/way", json!(null)),
        ("/threads/0/traps", json!(1)),
        ("/threads/0/interrupted_asleep", json!(1)),
        ("/threads/0/interrupted_queued", json!(1)),
        ("/threads/0/windows", json!(1)),
        ("/threads/0/lost_ns", json!(0)),
        ("/threads/0/rip", json!("0x1003")),
        ("/threads/0/rip", json!(null)),
        ("/threads/0/state", json!("livelocked")),
        ("/event", json!("sample")),
        ("/event", json!("goodbye")),
    ] {
        let watched = WatchedExperiment::kicked().claiming(place, value.clone());
        let wrong = watched.judged(Expected::Progress).wrong;
        assert!(!wrong.is_empty(), "{place}: {value}");
    }
}

#[test]
fn whoever_comes_late_or_ends_badly_is_noticed() {
    let watched = WatchedExperiment::kicked();
    let wrong = |change: fn(&mut Run)| {
        let mut run = watched.run();
        change(&mut run);
        watched.judge(&run, Expected::Progress).wrong
    };
    assert_eq!(wrong(|_| ()), [""; 0]);
    assert_ne!(wrong(|run| run.said[0].ns += 2 * MS), [""; 0]);
    assert_ne!(wrong(|run| drop(run.said.remove(0))), [""; 0]);
    assert_ne!(wrong(|run| run.exit_code = Some(2)), [""; 0]);
    assert_ne!(wrong(|run| run.exit_code = None), [""; 0]);
    assert_ne!(wrong(|run| run.said[1].text.truncate(9)), [""; 0]);
    assert_ne!(wrong(|run| run.said.clear()), [""; 0]);
}

#[test]
fn a_livelock_is_said_soon_where_there_is_one_and_nowhere_else() {
    let recorded = Recorded::kicked();
    let judged = |after_ms: Option<u64>, expected| {
        let watched = WatchedExperiment::new(&recorded, after_ms.map(|ms| ms * MS));
        watched.judged(expected)
    };
    let soon = judged(Some(200), Expected::Livelock);
    assert_eq!(
        (&soon.wrong[..], soon.said_after_ns),
        (&[][..], Some(200 * MS))
    );
    assert_ne!(judged(Some(1_001), Expected::Livelock).wrong, [""; 0]);
    assert_ne!(judged(None, Expected::Livelock).wrong, [""; 0]);
    assert_ne!(judged(Some(200), Expected::Progress).wrong, [""; 0]);
    assert_eq!(judged(Some(200), Expected::Either).wrong, [""; 0]);
    // Each thread has to be named.
    let several = WatchedExperiment::new(&Recorded::contended(), Some(200 * MS));
    assert_eq!(several.judged(Expected::Livelock).wrong.len(), 4);
}

/// The last failure is told by nobody.
#[test]
fn without_probes_less_is_seen_and_none_of_it_may_be_wrong() {
    let watched = WatchedExperiment::new(&Recorded::kicked(), None);
    let stats = watched.threads.values().next().expect("a thread");
    let slept = stats.interrupted_asleep + stats.interrupted_queued;
    assert!(slept > 2);
    let wrong = |interrupted: u64, windows: u64, traps: u64| {
        let mut watched = WatchedExperiment::kicked();
        for (place, value) in [
            ("/threads/0/interrupted_asleep", 0),
            ("/threads/0/interrupted_somewhere", interrupted),
            ("/threads/0/windows", windows),
            ("/threads/0/traps", traps),
            ("/threads/0/lost_ns", 0),
        ] {
            watched = watched.claiming(place, value);
        }
        let watched = watched.claiming("/threads/0/rip", json!(null));
        let (threads, span) = (&watched.threads, watched.span);
        let mode = WatchMode::Tracepoints;
        judge(&watched.run(), threads, span, Expected::Progress, mode).wrong
    };
    let windows = stats.windows;
    assert_eq!(wrong(slept, windows, slept + windows), [""; 0]);
    assert_eq!(wrong(slept - 1, windows, slept - 1 + windows), [""; 0]);
    assert_ne!(wrong(slept - 2, windows, slept - 2 + windows), [""; 0]);
    assert_ne!(wrong(slept + 1, windows, slept + 1 + windows), [""; 0]);
    assert_ne!(wrong(slept, windows + 1, slept + windows + 1), [""; 0]);
    assert_ne!(wrong(slept, windows, slept + windows + 1), [""; 0]);
}
