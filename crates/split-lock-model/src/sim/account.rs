//! Where the time went, and what it amounts to.

use super::machine::{Machine, OpenWindow};
use super::report::{Cycle, CycleShare, End, Report, TaskReport, Verdict};
use super::thread::{Activity, State, Thread};
use super::timeline::{SpanKind, Timeline, Track};
use crate::handler::TaskId;
use crate::machine::CoreId;
use crate::time::{Jiffies, Nanos};

/// Why a thread did not come to its split lock in its window: what it did for the longest time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unused {
    Interrupts,
    WithoutCpu,
    Outside,
    Moved,
}

impl Machine<'_> {
    /// Adds a thread's time up to now to what it did.
    pub(super) fn update_time(&mut self, task: usize) {
        let thread = &mut self.threads[task];
        let passed = self.now.saturating_sub(thread.since);
        if passed == 0 {
            return;
        }
        if let (Some(timeline), Some(kind)) = (&mut self.timeline, thread.span_kind()) {
            let (from, to) = (thread.since, self.now);
            timeline.add(Track::Task(task as u32), kind, from, to);
            if thread.state == State::OnCpu {
                let cpu = crate::machine::CpuId(thread.cpu as u32);
                timeline.add(Track::Cpu(cpu), SpanKind::Running(task as u32), from, to);
            }
        }
        thread.since = self.now;
        thread.add_time(passed);
        if thread.runs_program() && thread.in_window {
            let cpu = self.cpu_id(task);
            self.cores[self.scenario.topology.core_of(cpu).0 as usize].used += passed;
        }
    }

    /// A window closes: counts it if it was not used, and says what it is on the timeline.
    pub(super) fn judge_window(&mut self, core: CoreId) -> SpanKind {
        let Some(window) = self.cores[core.0 as usize].opened else {
            return SpanKind::DetectionOff;
        };
        self.update_time(window.by);
        let Some(cause) = self.why_unused(&window, core) else {
            return SpanKind::DetectionOff;
        };
        let counts = &mut self.threads[window.by].report.traps.unused;
        *match cause {
            Unused::Interrupts => &mut counts.interrupts,
            Unused::WithoutCpu => &mut counts.without_cpu,
            Unused::Outside => &mut counts.outside,
            Unused::Moved => &mut counts.moved,
        } += 1;
        SpanKind::WindowUnused
    }

    /// Whether the thread that a window is for has executed no split lock since it opened, as far as its time is
    /// added up.
    pub(super) fn executed_no_split(&self, window: &OpenWindow) -> bool {
        let thread = &self.threads[window.by];
        thread.report.splits == window.splits && thread.split_in_progress(self.now).is_none()
    }

    /// What the thread that a window was for did instead of coming to its split lock; `None` if it came.
    fn why_unused(&self, window: &OpenWindow, core: CoreId) -> Option<Unused> {
        let thread = &self.threads[window.by];
        if thread.state == State::Dead || !self.executed_no_split(window) {
            return None;
        }
        if self.scenario.topology.core_of(self.cpu_id(window.by)) != core {
            return Some(Unused::Moved);
        }
        let (before, now) = (&window.time, &thread.report.time);
        let interrupts = now.interrupts.since(before.interrupts);
        let without_cpu = now.waiting_for_cpu.since(before.waiting_for_cpu);
        let all = now.total().since(before.total());
        let outside = all.since(interrupts.plus(without_cpu));
        Some(if outside > interrupts.max(without_cpu) {
            Unused::Outside
        } else if interrupts > without_cpu {
            Unused::Interrupts
        } else {
            Unused::WithoutCpu
        })
    }

    /// A window closed, or the simulation ends while it is open.
    pub(super) fn note_window(&mut self, core: CoreId, kind: SpanKind) {
        let window = std::mem::take(&mut self.cores[core.0 as usize]);
        let Some(OpenWindow { at: opened, by, .. }) = window.opened else {
            return;
        };
        let open = self.now - opened;
        // Two siblings can use one window at once.
        let used = window.used.min(open);
        self.windows.open.0 += open;
        self.windows.used.0 += used;
        self.threads[by].report.time.window_unused.0 += open - used;
        if let Some(timeline) = &mut self.timeline {
            timeline.add(Track::Core(core), kind, opened, self.now);
        }
    }

    pub(super) fn into_report(mut self, end: End) -> Report {
        for task in 0..self.threads.len() {
            self.update_time(task);
            let thread = &mut self.threads[task];
            if let Some(since) = thread.pending_since.filter(|_| thread.state != State::Dead) {
                thread.note_signal_delay(Nanos(self.now - since));
            }
        }
        for core in 0..self.cores.len() as u32 {
            self.note_window(CoreId(core), SpanKind::DetectionOff);
        }
        self.change_holder(None);
        let ticks = self.ticks();
        let cycle = self.cycle.found();
        let tasks = self.threads.into_iter().enumerate();
        let tasks = tasks.map(|(index, thread)| thread.finish(cycle, self.cycle.share(index)));
        Report {
            elapsed: Nanos(self.now),
            end,
            events: self.events,
            tasks: tasks.collect(),
            windows: self.windows,
            cycle,
            runs: self.runs,
            timeline: self.timeline.map(|timeline| Timeline { ticks, ..timeline }),
        }
    }

    pub(super) fn change_holder(&mut self, holder: Option<TaskId>) {
        if self.semaphore.map(|(task, _)| task) == holder {
            return;
        }
        if let Some((task, since)) = self.semaphore.take() {
            self.windows.semaphore_held.0 += self.now - since;
            if let Some(timeline) = &mut self.timeline {
                timeline.add(Track::Semaphore, SpanKind::Held(task.0), since, self.now);
            }
        }
        self.semaphore = holder.map(|task| (task, self.now));
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
    pub(super) fn note_signal_delay(&mut self, delay: Nanos) {
        self.report.worst_signal_delay = self.report.worst_signal_delay.max(delay);
    }

    fn add_time(&mut self, passed: u64) {
        let time = &mut self.report.time;
        let cause = match (self.state, self.activity) {
            (State::NotStarted | State::Dead, _) => return,
            (State::Asleep(_), _) => &mut time.asleep,
            (State::Queued(_), _) => &mut time.queued,
            (State::Ready | State::Preempted, _) => &mut time.waiting_for_cpu,
            (State::OnCpu, Activity::Interrupts) => &mut time.interrupts,
            (State::OnCpu, Activity::Vmm) => &mut time.vmm,
            (State::OnCpu, Activity::Trap | Activity::Wake(_)) => &mut time.kernel,
            (State::OnCpu, Activity::Program) => {
                let (turns, splits) = self.program.advance(&mut self.position, passed);
                self.report.turns += turns;
                self.report.splits += splits;
                &mut time.guest
            }
        };
        cause.0 += passed;
        if self.state == State::OnCpu {
            self.cpu_time += passed;
            self.left = self.left.saturating_sub(passed);
        }
    }

    fn finish(self, cycle: Option<Cycle>, share: Option<CycleShare>) -> TaskReport {
        let killed = self.report.died_at.zip(self.killed_at);
        TaskReport {
            kill_delay: killed.map(|(end, from)| end.since(Nanos(from))),
            cycle: share,
            verdict: self.verdict(cycle.zip(share)),
            ..self.report
        }
    }

    fn verdict(&self, cycle: Option<(Cycle, CycleShare)>) -> Verdict {
        if self.state == State::Dead {
            return Verdict::Dead;
        }
        let (time, traps) = (&self.report.time, &self.report.traps);
        let (got, wanted) = (time.guest, time.guest.plus(time.punished()));
        let (granted, unused) = (traps.window, traps.unused.total());
        let stuck = cycle.filter(|(_, share)| share.turns == 0);
        let stuck_despite_windows = stuck.is_some_and(|(_, share)| share.traps.window > 0);
        if stuck_despite_windows || 2 * unused > granted {
            Verdict::WindowsUnused {
                granted,
                unused,
                wanted,
                got,
            }
        } else if let Some((cycle, _)) = stuck {
            Verdict::Livelocked(cycle)
        } else if self.report.turns == 0 && time.punished() > Nanos::ZERO {
            Verdict::NoProgressSeen
        } else if wanted.0 - got.0 > wanted.0 / 100 {
            Verdict::Slowed { wanted, got }
        } else {
            Verdict::Progresses
        }
    }
}
