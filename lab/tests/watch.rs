//! What is held against a watch: one that says what the kernel did is believed, and none that says anything else.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};
use split_lock_lab::watch::{Expected, ThreadStats, WatchMode, WatchReport, judge, thread_stats};

const MS: u64 = 1_000_000;
const TID: i32 = 71;
const ADDRESS: u64 = 0x40_1000;

/// A thread's traps, a millisecond apart: each but the last is cut short, and the last one passes.
fn trace(traps: u64) -> String {
    let mut trace = String::new();
    for trap in 0..traps {
        let last = trap + 1 == traps;
        let mut line = |micros: u64, event: &str| {
            let at = 9_000_000 + trap * 1000 + micros;
            let (seconds, micros) = (at / 1_000_000, at % 1_000_000);
            let _ = writeln!(
                trace,
                "   lab-split-{TID}  [000] .....  {seconds}.{micros:06}: {event}"
            );
        };
        line(
            0,
            &format!("warn: (split_lock_warn+0x0/0x1c0) ip={ADDRESS:#x}"),
        );
        line(1, "sleeps: (schedule_timeout+0x0/0x110)");
        let left = if last { 0 } else { 12 };
        line(
            900,
            &format!("slept: (split_lock_warn+0x5/0x1c0 <- msleep_interruptible) left={left:#x}"),
        );
        if last {
            line(
                901,
                "waited: (split_lock_warn+0x5/0x1c0 <- down_interruptible) error=0x0",
            );
        }
        line(
            902,
            "warned: (handle_user_split_lock+0x5/0x30 <- split_lock_warn)",
        );
    }
    trace
}

/// A watch that has seen it all, of a thread that trapped so often.
struct Watch {
    threads: BTreeMap<i32, ThreadStats>,
    lines: Vec<Value>,
}

impl Watch {
    /// It says so long after the first trap, if at all, that this is a livelock.
    fn new(traps: u64, livelock_after_ms: Option<u64>) -> Self {
        let threads = thread_stats(&trace(traps));
        let stats = &threads[&TID];
        let mut lines = vec![
            json!({"event": "start", "schema_version": 1, "at_ns": stats.first_ns - MS, "hz": 250}),
        ];
        if let Some(after_ms) = livelock_after_ms {
            let at_ns = stats.first_ns + after_ms * MS;
            lines.push(json!({"event": "state", "at_ns": at_ns, "tid": TID, "from": "held_up", "to": "livelocked"}));
        }
        for event in ["sample", "end"] {
            let cost = json!({"cpu_ns": 7 * MS, "wall_ns": 5_000 * MS});
            let at_ns = stats.last_ns + MS;
            lines.push(json!({"event": event, "at_ns": at_ns, "lost_events": 0, "cost": cost, "threads": [row(stats)]}));
        }
        Self { threads, lines }
    }

    fn judged_as(&self, expected: Expected, mode: WatchMode) -> WatchReport {
        let lines = self.lines.iter().map(|line| format!("{line}\n"));
        judge(&lines.collect::<String>(), &self.threads, expected, mode)
    }

    fn judged(&self, expected: Expected) -> WatchReport {
        self.judged_as(expected, WatchMode::Probes)
    }

    /// With something else in its last line.
    fn claiming(mut self, place: &str, value: impl Into<Value>) -> Self {
        let end = self.lines.last_mut().expect("an end");
        *end.pointer_mut(place).expect("a place") = value.into();
        self
    }
}

fn row(stats: &ThreadStats) -> Value {
    json!({
        "tid": TID,
        "pid": 70,
        "comm": "lab-split",
        "way": "user",
        "traps": stats.traps(),
        "interrupted_asleep": stats.interrupted_asleep + stats.not_slept,
        "interrupted_queued": stats.interrupted_queued,
        "interrupted_somewhere": 0,
        "windows": stats.windows,
        "lost_ns": stats.lost_ns,
        "state": "slowed",
        "rip": format!("{ADDRESS:#x}"),
    })
}

#[test]
fn what_the_kernel_did_is_believed() {
    let report = Watch::new(9, None).judged(Expected::Progress);
    assert_eq!(report.wrong, [""; 0]);
    assert_eq!(report.cpu_ns, 7 * MS);
}

#[test]
fn anything_else_is_noticed() {
    for (place, value) in [
        ("/lost_events", json!(1)),
        ("/at_ns", json!(0)),
        ("/threads", json!([])),
        ("/threads/0/tid", json!(7)),
        ("/threads/0/way", json!("guest")),
        ("/threads/0/way", json!(null)),
        ("/threads/0/traps", json!(1)),
        ("/threads/0/interrupted_asleep", json!(1)),
        ("/threads/0/interrupted_queued", json!(1)),
        ("/threads/0/windows", json!(0)),
        ("/threads/0/lost_ns", json!(9_000 * MS)),
        ("/threads/0/rip", json!("0x1003")),
        ("/threads/0/rip", json!(null)),
        ("/threads/0/state", json!("livelocked")),
        ("/event", json!("sample")),
        ("/event", json!("goodbye")),
    ] {
        let watch = Watch::new(9, None).claiming(place, value.clone());
        let wrong = watch.judged(Expected::Progress).wrong;
        assert!(!wrong.is_empty(), "{place}: {value}");
    }
}

#[test]
fn whoever_comes_late_or_says_nothing_is_noticed() {
    let mut late = Watch::new(9, None);
    late.lines[0]["at_ns"] = json!(late.threads[&TID].first_ns + 1);
    assert_ne!(late.judged(Expected::Progress).wrong, [""; 0]);
    late.lines.clear();
    assert_ne!(late.judged(Expected::Progress).wrong, [""; 0]);
    let mut idle = Watch::new(9, None);
    idle.threads.clear();
    assert_ne!(idle.judged(Expected::Progress).wrong, [""; 0]);
}

#[test]
fn a_livelock_is_said_soon_where_there_is_one_and_nowhere_else() {
    let judged = |after_ms, expected| Watch::new(9, after_ms).judged(expected);
    let soon = judged(Some(200), Expected::Livelock);
    assert_eq!(
        (&soon.wrong[..], soon.said_after_ns),
        (&[][..], Some(200 * MS))
    );
    assert_ne!(judged(Some(1_001), Expected::Livelock).wrong, [""; 0]);
    assert_ne!(judged(None, Expected::Livelock).wrong, [""; 0]);
    assert_ne!(judged(Some(200), Expected::Progress).wrong, [""; 0]);
    assert_eq!(judged(Some(200), Expected::Either).wrong, [""; 0]);
}

/// The last failure is told by nobody.
#[test]
fn without_probes_less_is_seen_and_none_of_it_may_be_wrong() {
    let stats = &Watch::new(9, None).threads[&TID];
    let (interrupted, windows) = (stats.interrupted_asleep, stats.windows);
    let wrong = |interrupted: u64, windows: u64, traps: u64| {
        let mut watch = Watch::new(9, None);
        for (place, value) in [
            ("/threads/0/interrupted_asleep", 0),
            ("/threads/0/interrupted_somewhere", interrupted),
            ("/threads/0/windows", windows),
            ("/threads/0/traps", traps),
            ("/threads/0/lost_ns", 0),
        ] {
            watch = watch.claiming(place, value);
        }
        let watch = watch.claiming("/threads/0/rip", json!(null));
        watch
            .judged_as(Expected::Progress, WatchMode::Tracepoints)
            .wrong
    };
    assert_eq!(wrong(interrupted, windows, interrupted + windows), [""; 0]);
    assert_eq!(
        wrong(interrupted - 1, windows, interrupted - 1 + windows),
        [""; 0]
    );
    assert_ne!(
        wrong(interrupted - 2, windows, interrupted - 2 + windows),
        [""; 0]
    );
    assert_ne!(
        wrong(interrupted + 1, windows, interrupted + windows + 1),
        [""; 0]
    );
    assert_ne!(
        wrong(interrupted, windows + 1, interrupted + windows + 1),
        [""; 0]
    );
    assert_ne!(
        wrong(interrupted, windows, interrupted + windows + 1),
        [""; 0]
    );
}
