//! Metrics of what is seen. Their names and labels are an interface: docs/watch.md.

use split_lock_report::text::plain;
use split_lock_watch::{ReliefTotals, Snapshot, ThreadRow, ThreadState, Totals};

use crate::metrics::Metrics;

/// More threads than these would be too many series: the worst of them have their own.
const MOST_THREADS: usize = 200;

pub(super) fn of(snapshot: &Snapshot) -> String {
    let mut metrics = Metrics::default();
    of_watch(snapshot, &mut metrics);
    of_all(&snapshot.totals, &mut metrics);
    if let Some(relief) = &snapshot.relief {
        of_relief(relief, &mut metrics);
    }
    of_threads(snapshot, &mut metrics);
    metrics.into_text()
}

fn of_watch(snapshot: &Snapshot, metrics: &mut Metrics) {
    let help = "What the kernel told and this program did not hear: what is counted is too little";
    let metric = metrics.counter("watch_lost_events_total", help);
    metric.value(&[], snapshot.lost_events as f64);
    let metric = metrics.counter("watch_cpu_seconds_total", "CPU time of this program");
    metric.value(&[], snapshot.cost.cpu.as_secs_f64());
    let help = "CPUs that have switched detection off for a window; it is off on the other threads of their cores, too";
    let metric = metrics.gauge("watch_cpus_in_windows", help);
    metric.value(&[], snapshot.cpus_off.len() as f64);
    let help = "How long windows were open, those of all CPUs together";
    let metric = metrics.counter("watch_windows_seconds_total", help);
    metric.value(&[], snapshot.unprotected.as_secs_f64());
    metrics.gauge("watch_threads", "Threads by how they fare");
    for state in [
        ThreadState::Slowed,
        ThreadState::WindowsUnused,
        ThreadState::HeldUp,
        ThreadState::Livelocked,
    ] {
        let threads = snapshot.threads.iter().filter(|row| row.state == state);
        metrics.value(&[("state", word(state))], threads.count() as f64);
    }
}

fn of_all(totals: &Totals, metrics: &mut Metrics) {
    let help = "Traps of all threads, by what became of them";
    let metric = metrics.counter("watch_traps_total", help);
    for (outcome, count) in [
        ("past", totals.windows),
        ("interrupted_asleep", totals.interrupted_asleep),
        ("interrupted_queued", totals.interrupted_queued),
        ("interrupted_somewhere", totals.interrupted_somewhere),
    ] {
        metric.value(&[("outcome", outcome)], count as f64);
    }
    let help =
        "Windows that were over before their thread came to its instruction, as far as can be told";
    let metric = metrics.counter("watch_windows_unused_total", help);
    metric.value(&[], totals.windows_unused as f64);
    let help = "Time of all threads in the kernel's split-lock handler";
    let metric = metrics.counter("watch_handler_seconds_total", help);
    metric.value(&[], totals.lost.as_secs_f64());
}

fn of_relief(relief: &ReliefTotals, metrics: &mut Metrics) {
    let help = "How often kernel.split_lock_mitigate was set to 0 to get threads out of a livelock";
    let metric = metrics.counter("watch_reliefs_total", help);
    metric.value(&[], relief.reliefs as f64);
    let metric = metrics.counter("watch_relieved_seconds_total", "How long it was 0 for that");
    metric.value(&[], relief.relieved.as_secs_f64());
    let help = "Windows that threads in a livelock got so";
    let metric = metrics.counter("watch_threads_relieved_total", help);
    metric.value(&[], relief.threads_past as f64);
    let help = "How often a thread in a livelock had to wait, because the budget was used up";
    let metric = metrics.counter("watch_reliefs_refused_total", help);
    metric.value(&[], relief.refused as f64);
}

fn of_threads(snapshot: &Snapshot, metrics: &mut Metrics) {
    let worst = snapshot.worst_threads(MOST_THREADS).into_iter();
    let worst: Vec<_> = worst.map(|row| (row, labels(row))).collect();
    let each = |metric: &mut Metrics, value: fn(&ThreadRow) -> f64| {
        for (row, labels) in &worst {
            let labels = labels.each_ref().map(|(name, value)| (*name, &value[..]));
            metric.value(&labels, value(row));
        }
    };
    let help = "Traps of one thread";
    each(metrics.counter("watch_thread_traps_total", help), |row| {
        row.totals.traps as f64
    });
    let help = "Traps of one thread that a signal sent back to their instruction";
    let metric = metrics.counter("watch_thread_interrupted_total", help);
    each(metric, |row| row.totals.interrupted() as f64);
    let help = "Windows of one thread that were over before it came to its instruction, as far as can be told";
    let metric = metrics.counter("watch_thread_windows_unused_total", help);
    each(metric, |row| row.totals.windows_unused as f64);
    let help = "Time of one thread in the kernel's split-lock handler";
    let metric = metrics.counter("watch_thread_handler_seconds_total", help);
    each(metric, |row| row.totals.lost.as_secs_f64());
    let help = "How long one thread has not got past an instruction";
    let metric = metrics.gauge("watch_thread_stuck_seconds", help);
    each(metric, |row| row.stuck_for.as_secs_f64());
    let help = "Whether one thread will not get past an instruction";
    let metric = metrics.gauge("watch_thread_livelocked", help);
    each(metric, |row| {
        f64::from(row.state == ThreadState::Livelocked)
    });
}

fn labels(row: &ThreadRow) -> [(&'static str, String); 4] {
    [
        ("pid", row.pid.to_string()),
        ("tid", row.tid.to_string()),
        ("comm", plain(row.identity.name())),
        ("place", plain(&row.identity.place())),
    ]
}

fn word(state: ThreadState) -> &'static str {
    match state {
        ThreadState::Quiet => "quiet",
        ThreadState::Slowed => "slowed",
        ThreadState::WindowsUnused => "windows_unused",
        ThreadState::HeldUp => "held_up",
        ThreadState::Livelocked => "livelocked",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::table::tests::snapshot;
    use super::*;

    fn read(path: &str) -> String {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        std::fs::read_to_string(root.join(path)).unwrap()
    }

    #[test]
    fn the_document_and_the_alert_know_the_metrics_that_there_are() {
        let text = of(&snapshot());
        insta::assert_snapshot!(text);
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let emitted: BTreeSet<_> = types.filter_map(|line| line.split(' ').next()).collect();
        let doc = read("contrib/prometheus/README.md");
        for name in &emitted {
            assert!(doc.contains(&format!("| `{name}` |")), "{name}");
        }
        assert_eq!(doc.matches("| `splitlock_watch_").count(), emitted.len());
        let alert = read("contrib/prometheus/splitlock-watch.rules.yml");
        let words = alert.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let asked: BTreeSet<_> = words
            .filter(|word| word.starts_with("splitlock_watch_"))
            .collect();
        assert!(!asked.is_empty() && asked.is_subset(&emitted), "{asked:?}");
    }
}
