//! A timeline as Chrome trace events, which Perfetto opens.

use serde_json::{Value, json};

use crate::sim::{Span, SpanKind, Timeline, Track};

/// Writes a timeline in the Chrome trace event format: a track for each CPU, core and thread, one
/// for the semaphore and one for ticks. Times are microseconds, as that format wants them.
///
/// ```
/// use split_lock_model::sim::{Budget, Program, Scenario, TaskSpec, simulate};
/// use split_lock_model::time::Nanos;
/// use split_lock_model::trace;
///
/// let guest = Program::split_loop(Nanos(500))?;
/// let mut scenario =
///     Scenario::single(TaskSpec::vcpu(guest, Budget::Relative(Nanos::from_millis(1))));
/// scenario.trace_spans = 1_000;
/// scenario.horizon = Nanos::from_millis(50);
/// let report = simulate(&"6.6,hz=1000".parse()?, &scenario)?;
/// let json = trace::to_chrome_json(report.timeline.as_ref().expect("asked for"));
/// assert!(json.to_string().contains("asleep for splitting a lock"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn to_chrome_json(timeline: &Timeline) -> Value {
    let mut tracks: Vec<Track> = timeline.spans.iter().map(|span| span.track).collect();
    tracks.sort_unstable();
    tracks.dedup();
    let names = tracks.iter().flat_map(|&track| name_track(timeline, track));
    let spans = timeline.spans.iter().map(|span| complete(timeline, span));
    let ticks = timeline.ticks.iter().map(|tick| {
        let (pid, tid, _) = place(Track::Semaphore);
        json!({"ph": "i", "s": "p", "name": "tick", "ts": micros(tick.0), "pid": pid, "tid": tid})
    });
    let events: Vec<Value> = names.chain(spans).chain(ticks).collect();
    json!({
        "displayTimeUnit": "ms",
        "otherData": {"truncated": timeline.truncated},
        "traceEvents": events,
    })
}

/// Process, thread and the process's name. Perfetto groups tracks by process: hardware first, then
/// threads, then the kernel's semaphore.
fn place(track: Track) -> (u32, u32, &'static str) {
    match track {
        Track::Cpu(cpu) => (1, cpu.0, "CPUs"),
        Track::Core(core) => (2, core.0, "Split-lock detection"),
        Track::Task(task) => (3, task, "Threads"),
        Track::Semaphore => (4, 0, "Kernel"),
    }
}

fn name_track(timeline: &Timeline, track: Track) -> [Value; 2] {
    let (pid, tid, group) = place(track);
    let name = match track {
        Track::Cpu(cpu) => format!("CPU {}", cpu.0),
        Track::Core(core) => format!("core {}", core.0),
        Track::Task(task) => task_name(timeline, task),
        Track::Semaphore => "split-lock semaphore".to_owned(),
    };
    let label = |kind, name: &str| json!({"ph": "M", "pid": pid, "tid": tid, "name": kind, "args": {"name": name}});
    [label("process_name", group), label("thread_name", &name)]
}

fn task_name(timeline: &Timeline, task: u32) -> String {
    timeline
        .tasks
        .get(task as usize)
        .map_or_else(|| format!("thread {task}"), Clone::clone)
}

fn complete(timeline: &Timeline, span: &Span) -> Value {
    let (pid, tid, _) = place(span.track);
    json!({
        "ph": "X",
        "pid": pid,
        "tid": tid,
        "name": describe(timeline, span.kind),
        "ts": micros(span.start.0),
        "dur": micros(span.end.since(span.start).0),
    })
}

fn describe(timeline: &Timeline, kind: SpanKind) -> String {
    match kind {
        SpanKind::Guest => "runs, detection on".to_owned(),
        SpanKind::GuestUndetected => "runs, split locks complete".to_owned(),
        SpanKind::Trap => "split lock trapped".to_owned(),
        SpanKind::Asleep => "asleep for splitting a lock".to_owned(),
        SpanKind::Queued => "waits for the split-lock semaphore".to_owned(),
        SpanKind::Waking => "wakes up in the kernel".to_owned(),
        SpanKind::Vmm => "VMM between two runs".to_owned(),
        SpanKind::SignalHandler => "signal handler".to_owned(),
        SpanKind::WaitingForCpu => "waits for its CPU".to_owned(),
        SpanKind::Interrupts => "serves interrupts".to_owned(),
        SpanKind::DetectionOff => "detection off".to_owned(),
        SpanKind::WindowUnused => "detection off, unused".to_owned(),
        SpanKind::Running(task) => task_name(timeline, task),
        SpanKind::Held(task) => format!("held by {}", task_name(timeline, task)),
    }
}

fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{CpuId, Topology};
    use crate::sim::{Budget, Program, Scenario, TaskSpec, simulate};
    use crate::time::Nanos;

    #[test]
    fn every_track_has_a_name_and_every_span_its_time() {
        let guest = Program::split_loop(Nanos(500)).expect("a program");
        let vcpu = |cpu| {
            let budget = Budget::Relative(Nanos::from_millis(30));
            let vcpu = TaskSpec::vcpu(guest, budget).on(CpuId(cpu));
            vcpu.named(format!("vCPU {cpu}"))
        };
        let machine = Topology::new(2, 1).expect("a machine");
        let mut scenario = Scenario::new(machine, vec![vcpu(0), vcpu(1)]);
        (scenario.trace_spans, scenario.horizon) = (10_000, Nanos::from_millis(300));
        let report = simulate(&"6.6".parse().expect("a kernel"), &scenario).expect("runs");
        let timeline = report.timeline.as_ref().expect("asked for");
        let json = to_chrome_json(timeline);
        let events = json["traceEvents"].as_array().expect("events");
        let names = events.iter().filter(|event| event["ph"] == "M");
        let names: Vec<_> = names.map(|event| &event["args"]["name"]).collect();
        for name in ["CPU 1", "core 0", "vCPU 1", "split-lock semaphore"] {
            assert!(names.iter().any(|found| *found == name), "{name}");
        }
        let spans: Vec<_> = events.iter().filter(|event| event["ph"] == "X").collect();
        assert!(spans.len() > 20 && spans.len() == timeline.spans.len());
        for (event, span) in spans.into_iter().zip(&timeline.spans) {
            let ns = |key: &str| (event[key].as_f64().expect(key) * 1e3).round() as u64;
            assert_eq!((ns("ts"), ns("ts") + ns("dur")), (span.start.0, span.end.0));
            let (pid, tid, _) = place(span.track);
            assert!(event["pid"] == pid && event["tid"] == tid);
        }
        assert_eq!(json["otherData"]["truncated"], false);
    }
}
