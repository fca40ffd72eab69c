//! The machine: events in order, and what each does.

use super::calendar::NEVER;
use super::machine::{Machine, OpenWindow, SOURCES, Source};
use super::report::{End, Report, Run};
use super::scenario::{Budget, TaskKind, Until};
use super::thread::{Activity, RunStart, State, WakeCause};
use crate::handler::{Action, Interrupted, Retry, Signal, TaskId, Trap, Wait};
use crate::machine::{CoreId, CpuId};
use crate::time::Nanos;

impl Machine<'_> {
    pub(super) fn run(mut self) -> Report {
        let horizon = self.scenario.horizon.0;
        let end = loop {
            if let Some(end) = self.end {
                break end;
            }
            let (slot, time) = self.calendar.first();
            if time > horizon {
                self.now = horizon;
                break if time == NEVER {
                    End::Quiet
                } else {
                    End::Horizon
                };
            }
            debug_assert!(time >= self.now, "time runs forwards");
            self.now = time;
            self.events += 1;
            self.handle(slot);
        };
        self.into_report(end)
    }

    fn handle(&mut self, slot: usize) {
        let cpus = self.cpus.len();
        if slot < cpus {
            return self.worker(slot);
        }
        if slot < 2 * cpus {
            return self.slice_over(slot - cpus);
        }
        let slot = slot - 2 * cpus;
        let (task, source) = (slot / SOURCES.len(), SOURCES[slot % SOURCES.len()]);
        match source {
            Source::Kill => self.kill(task),
            Source::Signal => self.timer(task),
            Source::Noise => self.noise(task),
            Source::Migrate => self.migrate(task),
            Source::Activity => self.activity_over(task),
        }
    }

    /// Detection comes back on a core: the delayed work of this CPU runs.
    fn worker(&mut self, cpu: usize) {
        if let Some(free) = self.busy_until(cpu) {
            return self.calendar.set(cpu, free);
        }
        if let Some(later) = self.worker_waits(cpu) {
            return self.calendar.set(cpu, later);
        }
        self.calendar.set(cpu, NEVER);
        let Some(done) = self.handler.reenable(self.jiffies(), CpuId(cpu as u32)) else {
            return;
        };
        debug_assert_eq!(self.handler.holder(), done.handed_to);
        (self.observer)(&self.handler, None);
        let kind = self.judge_window(done.core);
        self.refresh_core(done.core);
        self.note_window(done.core, kind);
        self.note_holder();
        if let Some(next) = done.handed_to {
            self.hand_over(next);
        }
    }

    pub(super) fn hand_over(&mut self, next: TaskId) {
        let task = next.0 as usize;
        // A waiter that a signal has already woken finds the hand-over by itself.
        if matches!(self.threads[task].state, State::Queued(_)) {
            self.wake(task, WakeCause::Semaphore);
        }
    }

    /// The run's timer, or a user thread's interval timer.
    fn timer(&mut self, task: usize) {
        if let Some(free) = self.deferred(task) {
            return self.set(task, Source::Signal, free);
        }
        let thread = &mut self.threads[task];
        let mut next = NEVER;
        if let Some(period) = thread.kind.grid() {
            if thread.pending_since.is_some() {
                thread.report.missed += 1;
            }
            thread.deadline += period.0;
            next = thread.deadline;
        }
        if let Some(period) = thread.kind.cpu_grid() {
            self.update_time(task);
            let thread = &mut self.threads[task];
            let beyond = thread.cpu_time.saturating_sub(thread.cpu_deadline);
            thread.cpu_deadline += (beyond / period.0 + 1) * period.0;
        }
        self.set(task, Source::Signal, next.max(self.now));
        self.signal(task);
    }

    fn noise(&mut self, task: usize) {
        if let Some(free) = self.deferred(task) {
            return self.set(task, Source::Noise, free);
        }
        self.schedule_noise(task);
        self.signal(task);
    }

    fn schedule_noise(&mut self, task: usize) {
        if let Some(mean) = self.scenario.tasks[task].noise {
            let next = self.now + self.rng.gap(mean.0);
            self.set(task, Source::Noise, next);
        }
    }

    /// A signal arrives: it waits, ends the run, or ends a wait in the kernel.
    fn signal(&mut self, task: usize) {
        let now = self.now;
        let thread = &mut self.threads[task];
        if matches!(thread.state, State::Dead | State::NotStarted) {
            return;
        }
        thread.pending_since.get_or_insert(now);
        match thread.state {
            State::OnCpu if thread.is_in_guest() => {
                self.update_time(task);
                self.take_signal(task);
                self.reschedule(task);
            }
            State::Asleep(wait) | State::Queued(wait) if wait.ends_on(Signal::Ordinary) => {
                self.wake(task, WakeCause::Signal);
            }
            _ => {}
        }
    }

    fn kill(&mut self, task: usize) {
        if let Some(free) = self.deferred(task) {
            return self.set(task, Source::Kill, free);
        }
        self.set(task, Source::Kill, NEVER);
        self.threads[task].killed_at = Some(self.now);
        match self.threads[task].state {
            State::NotStarted => self.die(task),
            State::OnCpu | State::Ready | State::Preempted if self.threads[task].is_in_guest() => {
                self.die(task);
            }
            State::Asleep(wait) | State::Queued(wait) if wait.ends_on(Signal::Fatal) => {
                self.wake(task, WakeCause::Kill);
            }
            _ => {}
        }
    }

    /// The thread's present activity has run its course.
    fn activity_over(&mut self, task: usize) {
        self.update_time(task);
        match (self.threads[task].state, self.threads[task].activity) {
            (State::NotStarted, _) => return self.start(task),
            (State::Asleep(_), _) => return self.wake(task, WakeCause::Timer),
            (State::Preempted, _) => {
                self.set(task, Source::Activity, NEVER);
                return self.make_ready(task);
            }
            (_, Activity::Interrupts) => self.enter_program(task, false),
            (_, Activity::Program) => self.program_stops(task),
            (_, Activity::Trap) => self.enter_handler(task),
            (_, Activity::Wake(cause)) => self.continue_handler(task, cause),
            (_, Activity::Vmm) => self.enter_program(task, true),
        }
        if self.threads[task].state == State::OnCpu {
            self.reschedule(task);
        }
    }

    fn start(&mut self, task: usize) {
        let now = self.now;
        if self.threads[task].killed_at.is_some() {
            return self.die(task);
        }
        self.set(task, Source::Activity, NEVER);
        self.threads[task].deadline = now;
        self.schedule_noise(task);
        self.schedule_migration(task);
        if let Some(period) = self.threads[task].kind.grid() {
            self.threads[task].deadline = now + period.0;
            self.set(task, Source::Signal, now + period.0);
        }
        if let Some(period) = self.threads[task].kind.cpu_grid() {
            self.threads[task].cpu_deadline = period.0;
        }
        // The first run begins like any other, without the cost of getting there.
        self.threads[task].activity = Activity::Vmm;
        self.make_ready(task);
    }

    /// The program reached a split lock that traps, or finished one that is reported.
    fn program_stops(&mut self, task: usize) {
        let thread = &mut self.threads[task];
        if thread.undetected {
            thread.report.traps.bus_lock += 1;
            let trapped = self.handler.bus_lock(self.jiffies(), TaskId(task as u32));
            self.threads[task].report.messages += u64::from(trapped.message.is_some());
            return self.act(task, Some(trapped.action));
        }
        thread.activity = Activity::Trap;
        thread.left = self.scenario.costs.trap.0;
        if thread.left == 0 {
            self.enter_handler(task);
        }
    }

    fn enter_handler(&mut self, task: usize) {
        self.look_for_cycle();
        if self.end.is_some() {
            return;
        }
        let thread = &self.threads[task];
        if thread.killed_at.is_some() {
            return self.die(task);
        }
        let trap = Trap {
            signal_pending: thread.pending_since.is_some(),
            ..Trap::new(TaskId(task as u32), CpuId(thread.cpu as u32), thread.origin)
        };
        let trapped = self.handler.trap(self.jiffies(), trap);
        self.threads[task].report.messages += u64::from(trapped.message.is_some());
        self.act(task, Some(trapped.action));
    }

    fn continue_handler(&mut self, task: usize, cause: WakeCause) {
        let (id, cpu) = (TaskId(task as u32), self.cpu_id(task));
        let (now, pending) = (self.jiffies(), self.threads[task].pending_since.is_some());
        let spec = &self.scenario.tasks[task];
        self.threads[task].owed_preemption = spec.preempted_after_wait.0;
        self.threads[task].owed_work = spec.work_after_wait.0;
        let action = match cause {
            WakeCause::Timer => self.handler.sleep_over(now, id, cpu, pending),
            WakeCause::Signal => self.handler.signal(now, id, cpu, Signal::Ordinary),
            WakeCause::Kill => self.handler.signal(now, id, cpu, Signal::Fatal),
            WakeCause::Semaphore => self.handler.granted(now, id, cpu),
        };
        self.act(task, action);
    }

    /// The thread does what the handler says. Without an answer it tries its instruction again.
    fn act(&mut self, task: usize, action: Option<Action>) {
        let answer = action.map(|action| (TaskId(task as u32), action));
        (self.observer)(&self.handler, answer);
        let traps = &mut self.threads[task].report.traps;
        match action {
            Some(Action::Sleep { wake, wait }) => {
                let at = self.clock.time_of(wake).0.max(self.now);
                return self.block(task, State::Asleep(wait), at);
            }
            Some(Action::Queue { wait }) => return self.block(task, State::Queued(wait), NEVER),
            Some(Action::Retry(Retry::WindowOpen { cpu, .. })) => {
                traps.window += 1;
                self.window_opened(task, cpu);
            }
            Some(Action::Retry(Retry::DetectionOn(cause))) => match cause {
                Interrupted::BeforeSleep => traps.signal_pending += 1,
                Interrupted::Asleep => traps.cut_asleep += 1,
                Interrupted::Queued => traps.cut_queued += 1,
            },
            Some(Action::Retry(Retry::ThreadExempt)) => traps.exempted += 1,
            Some(Action::Sigbus | Action::InjectAlignmentCheck) => {
                traps.sigbus += 1;
                return self.die(task);
            }
            Some(Action::Die) => return self.die(task),
            Some(Action::Retry(Retry::BusLockDone)) | None => {}
        }
        self.note_holder();
        if self.threads[task].killed_at.is_some() {
            return self.die(task);
        }
        self.enter_program(task, false);
    }

    fn block(&mut self, task: usize, state: State, until: u64) {
        self.note_holder();
        self.leave_cpu(task, state);
        self.set(task, Source::Activity, until);
        // A deadly signal may have come while the thread was on its way to sleep.
        let (State::Asleep(wait) | State::Queued(wait)) = state else {
            return;
        };
        if self.threads[task].killed_at.is_some() && wait.ends_on(Signal::Fatal) {
            self.wake(task, WakeCause::Kill);
        } else if self.threads[task].pending_since.is_some() && wait == Wait::Interruptible {
            self.wake(task, WakeCause::Signal);
        }
    }

    fn window_opened(&mut self, task: usize, cpu: CpuId) {
        self.windows.opened += 1;
        let core = self.scenario.topology.core_of(cpu);
        let (now, report) = (self.now, &self.threads[task].report);
        self.cores[core.0 as usize]
            .opened
            .get_or_insert(OpenWindow {
                at: now,
                by: task,
                splits: report.splits,
                time: report.time,
            });
        if let Some(due) = self.handler.work_due(cpu)
            && !self.scenario.starved_workers.contains(&cpu)
        {
            let at = self.clock.time_of(due).plus(self.scenario.costs.kworker);
            self.calendar.set(cpu.0 as usize, at.0.max(now));
        }
        self.refresh_core(core);
    }

    /// Into the guest or program: after the VMM's loop (a new run begins), or out of the handler.
    pub(super) fn enter_program(&mut self, task: usize, new_run: bool) {
        if new_run {
            self.look_for_cycle();
            if self.end.is_some() {
                return;
            }
            self.arm(task);
        }
        let (id, cpu) = (TaskId(task as u32), self.cpu_id(task));
        let (undetected, in_window) = (!self.handler.detects(id, cpu), self.handler.is_off(cpu));
        let thread = &mut self.threads[task];
        if thread.killed_at.is_some() {
            return self.die(task);
        }
        thread.activity = Activity::Program;
        thread.left = 0;
        (thread.undetected, thread.in_window) = (undetected, in_window);
        if thread.pending_since.is_some() {
            return self.take_signal(task);
        }
        let preempted = std::mem::take(&mut thread.owed_preemption);
        if preempted > 0 {
            let back = self.now + preempted;
            self.leave_cpu(task, State::Preempted);
            return self.set(task, Source::Activity, back);
        }
        if thread.owed_work > 0 {
            thread.activity = Activity::Interrupts;
            thread.left = std::mem::take(&mut thread.owed_work);
        }
    }

    fn arm(&mut self, task: usize) {
        let thread = &mut self.threads[task];
        thread.run_start = RunStart {
            at: self.now,
            turns: thread.report.turns,
            cpu_time: thread.cpu_time,
        };
        match thread.kind {
            TaskKind::Vcpu(Budget::Relative(period)) => {
                let at = self.now + period.0;
                self.set(task, Source::Signal, at);
            }
            TaskKind::Vcpu(Budget::ThreadCpu(period)) => {
                thread.cpu_deadline = thread.cpu_time + period.0;
                self.watch_cpu_time(task);
            }
            _ => {}
        }
    }

    /// CPU-time timers are looked at by the tick, while the thread runs.
    pub(super) fn watch_cpu_time(&mut self, task: usize) {
        let thread = &self.threads[task];
        let counts_cpu_time = matches!(thread.kind, TaskKind::Vcpu(Budget::ThreadCpu(_)))
            || thread.kind.cpu_grid().is_some();
        if counts_cpu_time {
            let over = Nanos(self.now + thread.cpu_budget());
            let at = match (thread.state, thread.pending_since) {
                (State::OnCpu, None) => self.clock.tick_from(over).0,
                _ => NEVER,
            };
            self.set(task, Source::Signal, at);
        }
    }

    /// EINTR out of KVM_RUN and round the VMM's loop, or the user thread's signal handler.
    pub(super) fn take_signal(&mut self, task: usize) {
        let costs = &self.scenario.costs;
        let thread = &mut self.threads[task];
        if let Some(since) = thread.pending_since.take() {
            thread.note_signal_delay(Nanos(self.now - since));
        }
        thread.report.signals += 1;
        if thread.activity == Activity::Interrupts {
            thread.owed_work = thread.left;
        }
        thread.activity = Activity::Vmm;
        thread.left = match thread.kind {
            TaskKind::Vcpu(_) => costs.vmm_loop.0,
            TaskKind::User { .. } => costs.signal_handler.0,
        };
        let begin = thread.run_start;
        let run = Run {
            turns: thread.report.turns - begin.turns,
            elapsed: Nanos(self.now - begin.at),
            cpu: Nanos(thread.cpu_time - begin.cpu_time),
        };
        if matches!(
            thread.kind,
            TaskKind::Vcpu(Budget::Relative(_) | Budget::ThreadCpu(_))
        ) {
            // Whatever ended the run, its timer is disarmed until the next.
            self.set(task, Source::Signal, NEVER);
        } else {
            // A program's timer goes on once its signal has been taken.
            self.watch_cpu_time(task);
        }
        if let (0, Until::Runs(wanted)) = (task, self.scenario.until) {
            self.runs.push(run);
            if self.runs.len() >= wanted as usize {
                self.end = Some(End::Runs);
            }
        }
    }

    pub(super) fn die(&mut self, task: usize) {
        self.leave_cpu(task, State::Dead);
        for source in SOURCES {
            self.set(task, source, NEVER);
        }
        self.threads[task].report.died_at = Some(Nanos(self.now));
        let next = self.handler.exit(TaskId(task as u32));
        (self.observer)(&self.handler, None);
        self.note_holder();
        if let Some(next) = next {
            self.hand_over(next);
        }
    }

    pub(super) fn schedule_migration(&mut self, task: usize) {
        if let Some(every) = self.scenario.tasks[task].migrate_every {
            let next = self.now + every.0;
            self.set(task, Source::Migrate, next);
        }
    }

    /// Moves a thread to another CPU, any with equal chance.
    fn migrate(&mut self, task: usize) {
        if let Some(free) = self.deferred(task) {
            return self.set(task, Source::Migrate, free);
        }
        self.schedule_migration(task);
        let others = self.cpus.len() as u64 - 1;
        if others > 0 {
            let step = 1 + self.rng.below(others) as usize;
            let to = (self.threads[task].cpu + step) % self.cpus.len();
            self.move_to(task, to);
        }
    }

    /// A moment at which the state is compared with earlier ones.
    fn look_for_cycle(&mut self) {
        let phase = self.clock.phase_at(Nanos(self.now));
        let Some(mut state) = self.cycle.room_for_state(phase) else {
            return;
        };
        self.write_state(&mut state);
        let counts = self
            .threads
            .iter()
            .map(|t| (t.report.turns, t.report.traps));
        if self.cycle.compare(state, phase, Nanos(self.now), counts) {
            self.end = Some(End::Cycle);
        }
    }

    fn write_state(&mut self, out: &mut Vec<u64>) {
        for task in 0..self.threads.len() {
            if self.threads[task].state != State::NotStarted {
                self.update_time(task);
            }
            self.threads[task].relative_state(self.now, out);
        }
        self.calendar.relative_state(self.now, out);
        for cpu in &self.cpus {
            out.push(cpu.running.map_or(0, |task| task as u64 + 1));
            out.push(cpu.ready.len() as u64);
            out.extend(cpu.ready.iter().map(|&task| task as u64));
            cpu.relative_worker_state(self.now, self.scenario.worker_wakeup, out);
        }
        for core in &self.cores {
            let is_unused = |window: OpenWindow| self.executed_no_split(&window);
            out.push(core.opened.map_or(0, |w| 1 + u64::from(is_unused(w))));
        }
        self.handler.relative_state(self.jiffies(), out);
    }

    pub(super) fn refresh_core(&mut self, core: CoreId) {
        for cpu in self.scenario.topology.cpus_of(core) {
            let Some(task) = self.cpus[cpu.0 as usize].running else {
                continue;
            };
            if !self.threads[task].runs_program() {
                continue;
            }
            self.update_time(task);
            let undetected = !self.handler.detects(TaskId(task as u32), cpu);
            let in_window = self.handler.is_off(cpu);
            let thread = &mut self.threads[task];
            (thread.undetected, thread.in_window) = (undetected, in_window);
            self.reschedule(task);
        }
    }

    fn note_holder(&mut self) {
        self.change_holder(self.handler.holder());
    }
}
