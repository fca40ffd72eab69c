//! Where the time went, and what it amounts to.

use super::engine::Machine;
use super::report::{Cycle, CycleShare, End, Report, Run, Verdict};
use super::thread::{Activity, State, Thread};
use super::timeline::{Doing, Timeline, Track};
use crate::machine::CoreId;
use crate::policy::Policy;
use crate::time::{Jiffies, Nanos};

impl<P: Policy> Machine<'_, P> {
    /// Brings a thread's books up to now.
    pub(super) fn settle(&mut self, task: usize) {
        let thread = &mut self.threads[task];
        let passed = self.now.saturating_sub(thread.since);
        if passed == 0 {
            return;
        }
        if let (Some(timeline), Some(doing)) = (&mut self.timeline, thread.doing()) {
            let (from, to) = (thread.since, self.now);
            timeline.add(Track::Task(task as u32), doing, from, to);
            if thread.state == State::OnCpu {
                let cpu = crate::machine::CpuId(thread.cpu as u32);
                timeline.add(Track::Cpu(cpu), Doing::Running(task as u32), from, to);
            }
        }
        thread.since = self.now;
        thread.book(passed);
        if thread.runs_program() && thread.in_window {
            let cpu = self.cpu_id(task);
            self.cores[self.scenario.topology.core_of(cpu).0 as usize].used += passed;
        }
    }

    /// A window closed, or the simulation ends while it is open.
    pub(super) fn close_books(&mut self, core: CoreId) {
        let window = std::mem::take(&mut self.cores[core.0 as usize]);
        let Some((opened, by)) = window.opened else {
            return;
        };
        let open = self.now - opened;
        // Two siblings can use one window at once.
        let used = window.used.min(open);
        self.windows.open.0 += open;
        self.windows.used.0 += used;
        self.threads[by].stats.window_unused += open - used;
        if let Some(timeline) = &mut self.timeline {
            timeline.add(Track::Core(core), Doing::DetectionOff, opened, self.now);
        }
    }

    pub(super) fn empty_timeline(&self) -> Timeline {
        Timeline {
            tasks: self
                .scenario
                .tasks
                .iter()
                .map(|task| task.name.clone())
                .collect(),
            ticks: Vec::new(),
            spans: Vec::new(),
            truncated: false,
            capacity: self.scenario.trace_spans,
        }
    }

    pub(super) fn into_report(mut self, end: End, events: u64, runs: Vec<Run>) -> Report {
        for task in 0..self.threads.len() {
            self.settle(task);
            let thread = &mut self.threads[task];
            if let Some(since) = thread.pending_since.filter(|_| thread.state != State::Dead) {
                let waited = self.now - since;
                thread.stats.worst_signal_delay = thread.stats.worst_signal_delay.max(waited);
            }
        }
        for core in 0..self.cores.len() as u32 {
            self.close_books(CoreId(core));
        }
        if let Some((task, since)) = self.semaphore {
            self.windows.semaphore_held.0 += self.now - since;
            if let Some(timeline) = &mut self.timeline {
                timeline.add(Track::Semaphore, Doing::Held(task.0), since, self.now);
            }
        }
        let ticks = self.ticks();
        let cycle = self.cycle.found();
        let tasks = self.threads.iter().zip(&self.scenario.tasks).enumerate();
        let tasks = tasks.map(|(index, (thread, spec))| {
            let share = self.cycle.share(index);
            thread.report(&spec.name, share, thread.verdict(cycle.zip(share)))
        });
        Report {
            elapsed: Nanos(self.now),
            end,
            events,
            tasks: tasks.collect(),
            windows: self.windows,
            cycle,
            runs,
            timeline: self.timeline.map(|timeline| Timeline { ticks, ..timeline }),
        }
    }

    /// The ticks of a traced simulation, as many as there may be spans.
    fn ticks(&self) -> Vec<Nanos> {
        let first = self.clock.jiffies_at(Nanos::ZERO).0;
        let last = self
            .jiffies()
            .0
            .min(first + self.scenario.trace_spans as u64);
        (first + 1..=last)
            .map(|tick| self.clock.time_of(Jiffies(tick)))
            .collect()
    }
}

impl Thread {
    fn book(&mut self, passed: u64) {
        let stats = &mut self.stats;
        match (self.state, self.activity) {
            (State::NotStarted | State::Dead, _) => return,
            (State::Asleep(_), _) => stats.asleep += passed,
            (State::Queued(_), _) => stats.queued += passed,
            (State::Ready, _) => stats.ready += passed,
            (State::OnCpu, Activity::Vmm) => stats.vmm += passed,
            (State::OnCpu, Activity::Trap | Activity::Wake(_)) => stats.kernel += passed,
            (State::OnCpu, Activity::Program) => {
                stats.guest += passed;
                let (turns, splits) = self.program.advance(&mut self.position, passed);
                stats.turns += turns;
                stats.splits += splits;
            }
        }
        if self.state == State::OnCpu {
            self.cpu_time += passed;
            self.cpu_budget = self.cpu_budget.saturating_sub(passed);
            self.left = self.left.saturating_sub(passed);
        }
    }

    fn verdict(&self, cycle: Option<(Cycle, CycleShare)>) -> Verdict {
        if self.state == State::Dead {
            return Verdict::Dead;
        }
        if let Some((cycle, CycleShare { turns: 0, .. })) = cycle {
            return Verdict::Livelocked(cycle);
        }
        let time = self.time_by_cause();
        let (got, wanted) = (time.guest, time.guest.plus(time.punished()));
        if self.stats.turns == 0 && time.punished() > Nanos::ZERO {
            Verdict::NoProgressSeen
        } else if wanted.0 - got.0 > wanted.0 / 100 {
            Verdict::Slowed { wanted, got }
        } else {
            Verdict::Progresses
        }
    }
}
