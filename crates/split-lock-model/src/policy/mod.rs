//! What the kernel could do instead: alternatives to the handler, behind the handler's interface.

mod alternatives;
mod compare;

pub use alternatives::Alternative;
pub use compare::{Assessment, CompareError, Comparison, Progress, markdown};

use std::fmt::Debug;

use crate::handler::{Action, Handler, Reenabled, Signal, TaskId, Trap, TrapOrigin, Trapped};
use crate::machine::CpuId;
use crate::time::Jiffies;

/// Anything that decides what a split lock costs the thread that executes it.
///
/// The events and answers are those of [`Handler`], which is the real kernel's policy and, under
/// other [`Rules`](crate::handler::Rules), most of the alternatives. The simulator runs any
/// implementation. Every method has the meaning that the method of that name has there.
pub trait Policy: Clone + Debug {
    /// Gets to know one more thread; threads are numbered from 0.
    fn spawn(&mut self) -> TaskId;
    /// Whether a split lock of this thread on this CPU would trap now.
    fn detects(&self, task: TaskId, cpu: CpuId) -> bool;
    /// Whether detection is switched off on this CPU's core.
    fn is_off(&self, cpu: CpuId) -> bool;
    /// The tick at which this CPU's re-enable work is due, if it has any.
    fn work_due(&self, cpu: CpuId) -> Option<Jiffies>;
    /// The thread that holds the semaphore.
    fn holder(&self) -> Option<TaskId>;
    /// A split lock met detection.
    fn trap(&mut self, now: Jiffies, trap: Trap) -> Trapped;
    /// A signal reached a thread that sleeps or queues.
    fn signal(&mut self, now: Jiffies, task: TaskId, cpu: CpuId, signal: Signal) -> Option<Action>;
    /// The tick that ends a sleep has come.
    fn sleep_over(
        &mut self,
        now: Jiffies,
        task: TaskId,
        cpu: CpuId,
        signal_pending: bool,
    ) -> Option<Action>;
    /// A thread that was handed the semaphore runs.
    fn granted(&mut self, now: Jiffies, task: TaskId, cpu: CpuId) -> Option<Action>;
    /// The re-enable work of this CPU runs.
    fn reenable(&mut self, now: Jiffies, cpu: CpuId) -> Option<Reenabled>;
    /// The thread ended; the answer is the thread that has the semaphore instead.
    fn exit(&mut self, task: TaskId) -> Option<TaskId>;
    /// Whether a finished split lock with this origin is reported.
    fn bus_lock_traps(&self, origin: TrapOrigin) -> bool;
    /// A finished split lock was reported.
    fn bus_lock(&mut self, now: Jiffies, task: TaskId) -> Trapped;
    /// Appends everything that decides the future, with times relative to `now`. The proof of a
    /// livelock rests on this: leaving something out makes it unsound.
    fn relative_state(&self, now: Jiffies, out: &mut Vec<u64>);
}

impl Policy for Handler {
    fn spawn(&mut self) -> TaskId {
        self.spawn()
    }

    fn detects(&self, task: TaskId, cpu: CpuId) -> bool {
        self.detects(task, cpu)
    }

    fn is_off(&self, cpu: CpuId) -> bool {
        self.is_off(cpu)
    }

    fn work_due(&self, cpu: CpuId) -> Option<Jiffies> {
        self.work_due(cpu)
    }

    fn holder(&self) -> Option<TaskId> {
        self.holder()
    }

    fn trap(&mut self, now: Jiffies, trap: Trap) -> Trapped {
        self.trap(now, trap)
    }

    fn signal(&mut self, now: Jiffies, task: TaskId, cpu: CpuId, signal: Signal) -> Option<Action> {
        self.signal(now, task, cpu, signal)
    }

    fn sleep_over(
        &mut self,
        now: Jiffies,
        task: TaskId,
        cpu: CpuId,
        signal_pending: bool,
    ) -> Option<Action> {
        self.sleep_over(now, task, cpu, signal_pending)
    }

    fn granted(&mut self, now: Jiffies, task: TaskId, cpu: CpuId) -> Option<Action> {
        self.granted(now, task, cpu)
    }

    fn reenable(&mut self, now: Jiffies, cpu: CpuId) -> Option<Reenabled> {
        self.reenable(now, cpu)
    }

    fn exit(&mut self, task: TaskId) -> Option<TaskId> {
        self.exit(task)
    }

    fn bus_lock_traps(&self, origin: TrapOrigin) -> bool {
        self.bus_lock_traps(origin)
    }

    fn bus_lock(&mut self, now: Jiffies, task: TaskId) -> Trapped {
        self.bus_lock(now, task)
    }

    fn relative_state(&self, now: Jiffies, out: &mut Vec<u64>) {
        self.relative_state(now, out);
    }
}
