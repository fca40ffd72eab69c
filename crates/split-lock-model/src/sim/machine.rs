//! The machine's state.

use std::collections::VecDeque;

use super::calendar::{Calendar, NEVER};
use super::cycle::CycleFinder;
use super::report::{End, Run, TimeByCause, Windows};
use super::scenario::Scenario;
use super::thread::Thread;
use super::timeline::Timeline;
use super::worker::Worker;
use crate::handler::{Action, Handler, Rules, TaskId};
use crate::kernel::Profile;
use crate::machine::CpuId;
use crate::random::SplitMix64;
use crate::time::{Jiffies, Nanos, TickClock};

/// Is called after each call of the handler, with the handler and its answer to a thread.
///
/// `None` if detection came back on a core, if a thread ended, or if the handler had no answer: then
/// the thread tries its instruction again.
pub type Observer<'a> = &'a mut dyn FnMut(&Handler, Option<(TaskId, Action)>);

/// The events of a thread, in the order in which they happen if they coincide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Kill,
    Signal,
    Noise,
    Migrate,
    Activity,
}

pub(super) const SOURCES: [Source; 5] = [
    Source::Kill,
    Source::Signal,
    Source::Noise,
    Source::Migrate,
    Source::Activity,
];

/// CPUs, threads and what is about to happen to them.
pub(super) struct Machine<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) handler: Handler,
    pub(super) observer: Observer<'a>,
    pub(super) clock: TickClock,
    pub(super) now: u64,
    pub(super) calendar: Calendar,
    pub(super) cpus: Vec<Cpu>,
    pub(super) threads: Vec<Thread>,
    pub(super) cores: Vec<CoreWindow>,
    pub(super) semaphore: Option<(TaskId, u64)>,
    pub(super) windows: Windows,
    pub(super) cycle: CycleFinder,
    pub(super) timeline: Option<Timeline>,
    pub(super) rng: SplitMix64,
    pub(super) events: u64,
    pub(super) runs: Vec<Run>,
    pub(super) end: Option<End>,
}

/// What there is to know about a core's window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CoreWindow {
    pub(super) opened: Option<OpenWindow>,
    pub(super) used: u64,
}

/// When a window opened, and how the thread that it is for fared until then.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenWindow {
    pub(super) at: u64,
    pub(super) by: usize,
    pub(super) splits: u64,
    pub(super) time: TimeByCause,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Cpu {
    pub(super) running: Option<usize>,
    pub(super) ready: VecDeque<usize>,
    /// When the running thread got it.
    pub(super) since: u64,
    pub(super) worker: Worker,
}

impl<'a> Machine<'a> {
    pub(super) fn new(
        kernel: &Profile,
        rules: Rules,
        scenario: &'a Scenario,
        observer: Observer<'a>,
    ) -> Self {
        let cpus = scenario.topology.cpus() as usize;
        let mut handler = Handler::new(kernel, scenario.topology, scenario.hardware, rules);
        let threads: Vec<_> = scenario.tasks.iter().map(Thread::new).collect();
        for _ in &threads {
            handler.spawn();
        }
        let mut machine = Self {
            scenario,
            handler,
            observer,
            clock: TickClock::new(kernel.hz(), scenario.tick_phase),
            now: 0,
            calendar: Calendar::new(2 * cpus + SOURCES.len() * threads.len()),
            cpus: vec![Cpu::default(); cpus],
            cores: vec![CoreWindow::default(); scenario.topology.cores() as usize],
            semaphore: None,
            windows: Windows::default(),
            cycle: CycleFinder::new(scenario),
            timeline: (scenario.trace_spans > 0).then(|| Timeline::new(scenario)),
            rng: SplitMix64::new(scenario.seed),
            events: 0,
            runs: Vec::new(),
            end: None,
            threads,
        };
        for (task, spec) in scenario.tasks.iter().enumerate() {
            machine.set(task, Source::Activity, spec.start.0);
            machine.set(task, Source::Kill, spec.kill_at.map_or(NEVER, |at| at.0));
        }
        machine
    }

    pub(super) fn set(&mut self, task: usize, source: Source, time: u64) {
        let slot = 2 * self.cpus.len() + SOURCES.len() * task + source as usize;
        self.calendar.set(slot, time);
    }

    pub(super) fn jiffies(&self) -> Jiffies {
        self.clock.jiffies_at(Nanos(self.now))
    }

    pub(super) fn cpu_id(&self, task: usize) -> CpuId {
        CpuId(self.threads[task].cpu as u32)
    }
}
