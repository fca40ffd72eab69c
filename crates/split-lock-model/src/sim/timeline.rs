//! What happened when, for pictures and traces.

use serde::Serialize;

use super::scenario::Scenario;
use crate::machine::{CoreId, CpuId};
use crate::time::Nanos;

/// A line of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Track {
    /// What a CPU runs.
    Cpu(CpuId),
    /// Whether a core detects.
    Core(CoreId),
    /// What a thread does; its place in the scenario.
    Task(u32),
    /// Who holds the semaphore.
    Semaphore,
}

/// What is going on during a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpanKind {
    /// The thread runs its program, with detection on.
    Guest,
    /// The thread runs its program, and split locks complete.
    GuestUndetected,
    /// The guest serves interrupts before it comes back to its program.
    Interrupts,
    /// The instruction trapped; the kernel looks at it.
    Trap,
    /// The punishing sleep.
    Asleep,
    /// Waiting for the semaphore.
    Queued,
    /// Woken up, in the kernel.
    Waking,
    /// The VMM between two runs.
    Vmm,
    /// A user thread's signal handler.
    SignalHandler,
    /// Ready, but the CPU runs another thread.
    WaitingForCpu,
    /// On the CPU's line: it runs this thread.
    Running(u32),
    /// On the core's line: detection is off.
    DetectionOff,
    /// On the core's line: detection is off, and the thread for which it is does not come to its split lock.
    WindowUnused,
    /// On the semaphore's line: this thread holds it.
    Held(u32),
}

/// Something that lasted a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// On which line.
    pub track: Track,
    /// What it was.
    #[serde(rename = "doing")]
    pub kind: SpanKind,
    /// From.
    pub start: Nanos,
    /// To.
    pub end: Nanos,
}

/// A simulation's spans, in the order in which they ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Timeline {
    /// The threads' names.
    pub tasks: Vec<String>,
    /// Moments of ticks: tick k is at `ticks[k]`, as far as the simulation went.
    pub ticks: Vec<Nanos>,
    /// What happened.
    pub spans: Vec<Span>,
    /// Whether there was more than was kept.
    pub truncated: bool,
    #[serde(skip)]
    pub(super) capacity: usize,
}

impl Timeline {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let names = scenario.tasks.iter().map(|task| task.name.clone());
        Self {
            tasks: names.collect(),
            ticks: Vec::new(),
            spans: Vec::new(),
            truncated: false,
            capacity: scenario.trace_spans,
        }
    }

    pub(super) fn add(&mut self, track: Track, kind: SpanKind, start: u64, end: u64) {
        if start == end {
            return;
        }
        // A thread's time is added up more often than its activity changes.
        let same =
            |span: &&mut Span| span.track == track && span.kind == kind && span.end.0 == start;
        if let Some(last) = self.spans.iter_mut().rev().take(8).find(same) {
            last.end = Nanos(end);
        } else if self.spans.len() < self.capacity {
            self.spans.push(Span {
                track,
                kind,
                start: Nanos(start),
                end: Nanos(end),
            });
        } else {
            self.truncated = true;
        }
    }
}
