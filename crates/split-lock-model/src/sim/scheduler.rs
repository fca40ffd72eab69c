//! Which thread runs on which CPU.
//!
//! Threads that share a CPU take turns; one that wakes up goes first, and the running one makes
//! room as soon as its instruction is done.

use super::calendar::NEVER;
use super::machine::{Machine, Source};
use super::thread::{Activity, State, WakeCause};

impl Machine<'_> {
    /// When the CPU can take an interrupt, if it cannot now: a split lock is not interrupted.
    pub(super) fn busy_until(&self, cpu: usize) -> Option<u64> {
        let thread = &self.threads[self.cpus[cpu].running?];
        Some(self.now + thread.split_in_progress(self.now)?)
    }

    /// The same for what is about to happen to a thread.
    pub(super) fn deferred(&self, task: usize) -> Option<u64> {
        Some(self.now + self.threads[task].split_in_progress(self.now)?)
    }

    /// Something ends the thread's wait in the kernel.
    pub(super) fn wake(&mut self, task: usize, cause: WakeCause) {
        self.update_time(task);
        self.set(task, Source::Activity, NEVER);
        let thread = &mut self.threads[task];
        thread.activity = Activity::Wake(cause);
        thread.left = self.scenario.costs.wakeup.0;
        self.make_ready(task);
    }

    pub(super) fn make_ready(&mut self, task: usize) {
        self.update_time(task);
        let cpu = self.threads[task].cpu;
        self.threads[task].state = State::Ready;
        self.cpus[cpu].ready.push_front(task);
        if self.cpus[cpu].running.is_none() {
            self.dispatch(cpu);
        } else {
            let preempt_at = self.busy_until(cpu).unwrap_or(self.now);
            self.calendar.set(self.cpus.len() + cpu, preempt_at);
        }
    }

    /// Gives a free CPU to the first thread in line.
    fn dispatch(&mut self, cpu: usize) {
        let slice_slot = self.cpus.len() + cpu;
        let Some(task) = self.cpus[cpu].ready.pop_front() else {
            return self.calendar.set(slice_slot, NEVER);
        };
        self.update_time(task);
        self.cpus[cpu].running = Some(task);
        self.cpus[cpu].since = self.now;
        self.threads[task].state = State::OnCpu;
        // Detection may have changed, and signals come, while it waited.
        match self.threads[task].activity {
            Activity::Program => self.enter_program(task, false),
            Activity::Interrupts if self.threads[task].pending_since.is_some() => {
                self.take_signal(task);
            }
            _ => {}
        }
        self.watch_cpu_time(task);
        self.reschedule(task);
        let crowded = !self.cpus[cpu].ready.is_empty();
        let slice = if crowded {
            self.now + self.scenario.slice.0
        } else {
            NEVER
        };
        self.calendar.set(slice_slot, slice);
    }

    pub(super) fn slice_over(&mut self, cpu: usize) {
        if let Some(free) = self.busy_until(cpu) {
            return self.calendar.set(self.cpus.len() + cpu, free);
        }
        if let Some(task) = self.cpus[cpu]
            .running
            .filter(|_| !self.cpus[cpu].ready.is_empty())
        {
            self.take_off(task, State::Ready);
            self.cpus[cpu].ready.push_back(task);
        }
        if self.cpus[cpu].running.is_none() {
            self.dispatch(cpu);
        } else {
            self.calendar.set(self.cpus.len() + cpu, NEVER);
        }
    }

    fn take_off(&mut self, task: usize, state: State) {
        self.update_time(task);
        let cpu = self.threads[task].cpu;
        self.threads[task].state = state;
        self.cpus[cpu].running = None;
        self.let_worker_run(cpu);
        self.set(task, Source::Activity, NEVER);
        self.watch_cpu_time(task);
    }

    /// The thread blocks or ends; its CPU goes to the next.
    pub(super) fn leave_cpu(&mut self, task: usize, state: State) {
        let cpu = self.threads[task].cpu;
        if self.threads[task].state == State::OnCpu {
            self.take_off(task, state);
            return self.dispatch(cpu);
        }
        self.update_time(task);
        self.cpus[cpu].ready.retain(|&other| other != task);
        self.threads[task].state = state;
    }

    pub(super) fn move_to(&mut self, task: usize, to: usize) {
        match self.threads[task].state {
            State::Dead => {}
            State::OnCpu | State::Ready => {
                self.leave_cpu(task, State::Ready);
                self.threads[task].cpu = to;
                self.make_ready(task);
            }
            State::NotStarted | State::Asleep(_) | State::Queued(_) | State::Preempted => {
                self.threads[task].cpu = to;
            }
        }
    }

    /// Says when the running thread's present activity will be over.
    pub(super) fn reschedule(&mut self, task: usize) {
        let thread = &self.threads[task];
        if thread.state != State::OnCpu {
            return;
        }
        let length = match thread.activity {
            Activity::Program if !thread.undetected => thread.program.until_split(thread.position),
            Activity::Program if self.handler.bus_lock_traps(thread.origin) => {
                thread.program.until_split_done(thread.position)
            }
            Activity::Program => None,
            Activity::Interrupts | Activity::Trap | Activity::Wake(_) | Activity::Vmm => {
                Some(thread.left)
            }
        };
        self.set(
            task,
            Source::Activity,
            length.map_or(NEVER, |length| self.now + length),
        );
    }
}
