//! The handler itself: one function per event.

use super::action::{Action, Interrupted, Message, Retry, Trap, TrapOrigin, Trapped};
use super::bus_lock::RateLimit;
use super::detection::{Detection, ReenableWork};
use super::rules::{OnSignal, Rules};
use super::semaphore::Semaphore;
use super::task::{Carried, Stage, Task, TaskId};
use super::wait::{Signal, Wait};
use crate::kernel::{Era, Mode, Profile};
use crate::machine::{CoreId, CpuId, Hardware, Topology};
use crate::time::Jiffies;

/// The kernel's split-lock handler, with everything it remembers about threads and cores.
///
/// ```
/// use split_lock_model::handler::{Action, Handler, Interrupted, Retry, Rules, Signal, Trap, TrapOrigin};
/// use split_lock_model::machine::{CpuId, Hardware, Topology};
/// use split_lock_model::time::Jiffies;
///
/// let profile = "6.1.192,hz=250".parse()?;
/// let mut kernel = Handler::new(&profile, Topology::SINGLE, Hardware::ICE_LAKE, Rules::UPSTREAM);
/// let (vcpu, cpu) = (kernel.spawn(), CpuId(0));
/// assert!(kernel.detects(vcpu, cpu));
///
/// // 10 ms are 3 ticks, the historical extra one makes 4, and the fifth to come wakes the thread.
/// let trapped = kernel.trap(Jiffies(100), Trap::new(vcpu, cpu, TrapOrigin::Guest));
/// assert!(matches!(trapped.action, Action::Sleep { wake: Jiffies(105), .. }));
///
/// // The VMM's timer comes first, and nothing was gained.
/// let action = kernel.signal(Jiffies(101), vcpu, cpu, Signal::Ordinary);
/// assert_eq!(action, Some(Action::Retry(Retry::DetectionOn(Interrupted::Asleep))));
/// assert!(kernel.detects(vcpu, cpu));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Handler {
    mode: Mode,
    era: Era,
    mitigate: bool,
    sleep: Jiffies,
    split_lock_armed: bool,
    bus_lock_armed: bool,
    rules: Rules,
    tasks: Vec<Task>,
    semaphore: Semaphore,
    detection: Detection,
    rate_limit: RateLimit,
    warned_once: bool,
}

/// A window closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reenabled {
    /// The core that detects again.
    pub core: CoreId,
    /// The thread that has the semaphore now. Once it runs: [`Handler::granted`].
    pub handed_to: Option<TaskId>,
}

impl Handler {
    /// A freshly booted kernel.
    #[must_use]
    pub fn new(profile: &Profile, topology: Topology, hardware: Hardware, rules: Rules) -> Self {
        let features = profile.features();
        Self {
            mode: profile.mode(),
            era: features.era,
            mitigate: profile.mitigate(),
            sleep: profile.sleep_ticks(),
            split_lock_armed: profile.arms_split_lock(hardware),
            bus_lock_armed: profile.arms_bus_lock(hardware),
            rules,
            tasks: Vec::new(),
            semaphore: Semaphore::default(),
            detection: Detection::new(topology, !features.per_cpu_reenable),
            rate_limit: RateLimit::new(profile),
            warned_once: false,
        }
    }

    /// Gets to know one more thread.
    pub fn spawn(&mut self) -> TaskId {
        self.tasks.push(Task::default());
        TaskId(self.tasks.len() as u32 - 1)
    }

    /// Whether a split lock of this thread on this CPU would trap now.
    #[must_use]
    pub fn detects(&self, task: TaskId, cpu: CpuId) -> bool {
        self.split_lock_armed && !self.task(task).exempt && !self.detection.is_off(cpu)
    }

    /// Whether this thread is outside the handler: neither asleep nor queued in it, nor ended.
    #[must_use]
    pub fn is_running(&self, task: TaskId) -> bool {
        self.task(task).stage == Stage::Running
    }

    /// Whether detection is switched off on this CPU's core, by a window or by the old bug.
    #[must_use]
    pub fn is_off(&self, cpu: CpuId) -> bool {
        self.detection.is_off(cpu)
    }

    /// The thread that holds the semaphore. It may have returned to its instruction, or not have
    /// run yet since the semaphore was handed to it.
    #[must_use]
    pub fn holder(&self) -> Option<TaskId> {
        self.semaphore.holder()
    }

    /// The threads that wait for the semaphore, first in line first.
    pub fn waiters(&self) -> impl ExactSizeIterator<Item = TaskId> {
        self.semaphore.waiters()
    }

    /// Re-enable work that waits for its tick, by CPU. A driver on a real clock runs
    /// [`Handler::reenable`] for each when it is due.
    pub fn pending_work(&self) -> impl Iterator<Item = ReenableWork> {
        self.detection.works()
    }

    /// When this CPU's re-enable work is due, if it has any.
    #[must_use]
    pub fn work_due(&self, cpu: CpuId) -> Option<Jiffies> {
        self.detection.due_on(cpu)
    }

    /// A split lock met detection.
    ///
    /// A guest or program that asked for alignment checks itself is not punished but gets what it
    /// asked for. In mode `warn` the era decides; every other mode ends in SIGBUS (a trap in a mode
    /// that arms no detection is one the kernel calls bogus).
    pub fn trap(&mut self, now: Jiffies, trap: Trap) -> Trapped {
        let (message, action) = if trap.alignment_check {
            let action = match trap.origin {
                TrapOrigin::Guest => Action::InjectAlignmentCheck,
                TrapOrigin::User => Action::Sigbus,
            };
            (None, action)
        } else if self.mode != Mode::Warn || self.era == Era::None {
            (self.sigbus_message(trap.origin), Action::Sigbus)
        } else {
            let message = self.warning(trap.task);
            let action = match self.era {
                Era::Thread => self.exempt(trap.task),
                _ if self.mitigate => self.begin_sleep(now, &trap),
                _ => self.open_window(now, trap.task, trap.cpu),
            };
            (message, action)
        };
        Trapped { message, action }
    }

    /// A signal reached a thread that sleeps or waits in the queue, on the CPU where the thread runs
    /// to take it. `None`: the wait goes on (the signal stays pending), or there was no wait. [`Action::Queue`]: the thread was
    /// woken, and waits again, from now on for a deadly signal only.
    pub fn signal(
        &mut self,
        now: Jiffies,
        task: TaskId,
        cpu: CpuId,
        signal: Signal,
    ) -> Option<Action> {
        match self.task(task).stage {
            Stage::Asleep { expires, wait } if wait.ends_on(signal) => {
                Some(self.wake_by_signal(now, task, cpu, expires, signal))
            }
            Stage::Queued { wait } if wait.ends_on(signal) => {
                if signal == Signal::Ordinary && self.is_deaf(task) {
                    let wait = Wait::Killable;
                    self.task_mut(task).stage = Stage::Queued { wait };
                    return Some(Action::Queue { wait });
                }
                Some(self.interrupt(task, Interrupted::Queued, signal))
            }
            // The hand-over came first: the kernel looks for it before it looks for signals.
            Stage::Granted => self.granted(now, task, cpu),
            _ => None,
        }
    }

    /// The tick that ends a sleep has come and the thread runs again, on this CPU.
    /// `None` if the thread does not sleep, or not until now.
    pub fn sleep_over(
        &mut self,
        now: Jiffies,
        task: TaskId,
        cpu: CpuId,
        signal_pending: bool,
    ) -> Option<Action> {
        match self.task(task).stage {
            Stage::Asleep { expires, .. } if now > expires => {
                Some(self.take_semaphore(now, task, cpu, signal_pending))
            }
            Stage::Throttled { wake } if now >= wake => Some(self.throttle(now, task)),
            _ => None,
        }
    }

    /// A thread to which [`Handler::reenable`] handed the semaphore runs again, on this CPU.
    /// `None` if nothing was handed to it.
    pub fn granted(&mut self, now: Jiffies, task: TaskId, cpu: CpuId) -> Option<Action> {
        (self.task(task).stage == Stage::Granted).then(|| self.open_window(now, task, cpu))
    }

    /// The re-enable work of this CPU runs: its core detects again and the semaphore goes to the
    /// first waiter. `None` if no work is due.
    pub fn reenable(&mut self, now: Jiffies, cpu: CpuId) -> Option<Reenabled> {
        self.reenable_elsewhere(now, cpu, cpu)
    }

    /// The re-enable work of `cpu` runs, but on `runs_on`: that core detects again, and the one whose
    /// window it was stays without detection until its next window closes.
    ///
    /// The work that releases the semaphore is one item for all CPUs (until 7.1 at least), and a
    /// workqueue runs an item where it is still being run: if the worker of another CPU has released
    /// the semaphore and is then kept from returning for the two ticks of the next window, it gets
    /// that window's work, too. Seen on a real kernel whose CPUs were held up.
    pub fn reenable_elsewhere(
        &mut self,
        now: Jiffies,
        cpu: CpuId,
        runs_on: CpuId,
    ) -> Option<Reenabled> {
        let (core, unlocks) = self.detection.close(now, cpu, runs_on)?;
        let handed_to = unlocks.and_then(|_| self.semaphore.release());
        if let Some(next) = handed_to {
            self.task_mut(next).stage = Stage::Granted;
        }
        Some(Reenabled { core, handed_to })
    }

    /// The thread ended. A window it opened stays until its work has run.
    ///
    /// If the semaphore had just been handed to it, it goes on to the next in line, who is named:
    /// once that thread runs, [`Handler::granted`].
    pub fn exit(&mut self, task: TaskId) -> Option<TaskId> {
        let had = std::mem::replace(&mut self.task_mut(task).stage, Stage::Gone);
        self.semaphore.leave(task);
        let next = (had == Stage::Granted)
            .then(|| self.semaphore.release())
            .flatten()?;
        self.task_mut(next).stage = Stage::Granted;
        Some(next)
    }

    /// Whether a split lock of a thread of this origin would be reported after it is done. Guests are
    /// not: KVM runs them with the host's bus-lock detection switched off.
    #[must_use]
    pub fn bus_lock_traps(&self, origin: TrapOrigin) -> bool {
        self.bus_lock_armed && origin == TrapOrigin::User
    }

    /// A split lock that detection let through raised #DB (5.13, ebb1064e7c2e).
    pub fn bus_lock(&mut self, now: Jiffies, task: TaskId) -> Trapped {
        let reported = Some(Message::BusLock);
        let (message, action) = match self.mode {
            Mode::Fatal => (None, Action::Sigbus),
            Mode::Ratelimit(_) => (reported, self.throttle(now, task)),
            Mode::Off | Mode::Warn => (reported, Action::Retry(Retry::BusLockDone)),
        };
        Trapped { message, action }
    }

    /// Appends everything that decides the handler's future, with times relative to `now`: two
    /// handlers with the same answer behave alike from here on. The proof of a livelock rests on this:
    /// leaving something out makes it unsound.
    pub fn relative_state(&self, now: Jiffies, out: &mut Vec<u64>) {
        for task in &self.tasks {
            self.relative_task(task, now, out);
        }
        out.push(
            self.semaphore
                .holder()
                .map_or(0, |task| u64::from(task.0) + 1),
        );
        out.extend(self.semaphore.waiters().map(|task| u64::from(task.0)));
        out.extend([u64::MAX, u64::from(self.warned_once)]);
        self.detection.relative_state(now, out);
        self.rate_limit.relative_state(now, out);
    }

    fn task(&self, id: TaskId) -> &Task {
        &self.tasks[id.0 as usize]
    }

    fn task_mut(&mut self, id: TaskId) -> &mut Task {
        &mut self.tasks[id.0 as usize]
    }

    /// Since 5.19 a thread is named once; the flag is set even when rate limiting drops the line.
    fn warning(&mut self, task: TaskId) -> Option<Message> {
        let reported = std::mem::replace(&mut self.task_mut(task).reported, true);
        (!reported || self.era == Era::Thread).then_some(Message::SplitLock)
    }

    fn sigbus_message(&mut self, origin: TrapOrigin) -> Option<Message> {
        let message = match (origin, self.mode) {
            (TrapOrigin::User, _) => return None,
            (TrapOrigin::Guest, Mode::Fatal) => Message::FatalGuest,
            (TrapOrigin::Guest, _) => Message::BogusGuest,
        };
        (!std::mem::replace(&mut self.warned_once, true)).then_some(message)
    }

    /// 5.7 to 5.18: TIF_SLD. The kernel restores the core's detection when another thread runs.
    fn exempt(&mut self, task: TaskId) -> Action {
        self.task_mut(task).exempt = true;
        Action::Retry(Retry::ThreadExempt)
    }

    /// The first misery factor: `msleep_interruptible(10)`.
    fn begin_sleep(&mut self, now: Jiffies, trap: &Trap) -> Action {
        let expires = match self.task(trap.task).carried {
            None => now.plus(self.sleep),
            Some(Carried::Nothing) => {
                return self.take_semaphore(now, trap.task, trap.cpu, trap.signal_pending);
            }
            Some(Carried::Ticks(rest)) => now.plus(rest),
            Some(Carried::Until(end)) => end,
        };
        if self.is_served(now, expires) {
            return self.take_semaphore(now, trap.task, trap.cpu, trap.signal_pending);
        }
        let fixed = self.rules.on_signal == OnSignal::FixedEnd;
        let wait = self.rules.wait;
        let task = self.task_mut(trap.task);
        task.stage = Stage::Asleep { expires, wait };
        if fixed {
            task.carried = Some(Carried::Until(expires));
        }
        if trap.signal_pending && wait.ends_on(Signal::Ordinary) {
            // msleep looks for signals before it sleeps at all.
            let cause = Interrupted::BeforeSleep;
            return self.sleep_cut_short(now, trap.task, trap.cpu, expires, cause);
        }
        // The timer wheel never fires early: a timer for tick n fires at tick n + 1.
        Action::Sleep {
            wake: expires.plus(Jiffies(1)),
            wait,
        }
    }

    /// Whether a sleep that asked for `expires` counts as complete although it was interrupted. In
    /// its last tick it has nothing left, which msleep reports as done; a fixed end does not move.
    fn is_served(&self, now: Jiffies, expires: Jiffies) -> bool {
        match self.rules.on_signal {
            OnSignal::FixedEnd => now > expires,
            OnSignal::StartOver | OnSignal::Proceed | OnSignal::RemainingSleep => now >= expires,
        }
    }

    fn wake_by_signal(
        &mut self,
        now: Jiffies,
        task: TaskId,
        cpu: CpuId,
        expires: Jiffies,
        signal: Signal,
    ) -> Action {
        if self.is_served(now, expires) {
            return self.take_semaphore(now, task, cpu, true);
        }
        if signal == Signal::Fatal {
            return self.interrupt(task, Interrupted::Asleep, signal);
        }
        self.sleep_cut_short(now, task, cpu, expires, Interrupted::Asleep)
    }

    fn sleep_cut_short(
        &mut self,
        now: Jiffies,
        task: TaskId,
        cpu: CpuId,
        expires: Jiffies,
        cause: Interrupted,
    ) -> Action {
        match self.rules.on_signal {
            OnSignal::Proceed => return self.take_semaphore(now, task, cpu, true),
            OnSignal::RemainingSleep => {
                self.task_mut(task).carried = Some(Carried::Ticks(expires.since(now)));
            }
            OnSignal::StartOver | OnSignal::FixedEnd => {}
        }
        self.interrupt(task, cause, Signal::Ordinary)
    }

    /// The early return: detection stays on.
    fn interrupt(&mut self, id: TaskId, cause: Interrupted, signal: Signal) -> Action {
        self.semaphore.leave(id);
        let pays_by_ticks = self.rules.on_signal == OnSignal::RemainingSleep;
        let task = self.task_mut(id);
        task.stage = Stage::Running;
        if cause == Interrupted::Queued && pays_by_ticks {
            task.carried = Some(Carried::Nothing);
        }
        match signal {
            Signal::Fatal => Action::Die,
            Signal::Ordinary => Action::Retry(Retry::DetectionOn(cause)),
        }
    }

    /// Whether a waiter's signals wait for the window of the one before it.
    fn is_deaf(&self, id: TaskId) -> bool {
        self.rules.keep_place && self.semaphore.is_first(id)
    }

    /// The second misery factor: `down_interruptible(&buslock_sem)`.
    fn take_semaphore(
        &mut self,
        now: Jiffies,
        id: TaskId,
        cpu: CpuId,
        signal_pending: bool,
    ) -> Action {
        if self.semaphore.try_take(id) {
            return self.open_window(now, id, cpu);
        }
        let place = match self.task(id).carried {
            Some(Carried::Until(end)) if self.rules.keep_place => Some(end.0),
            _ => None,
        };
        self.semaphore.enqueue(id, place);
        let wait = match self.is_deaf(id) {
            true => Wait::Killable,
            false => self.rules.wait,
        };
        if signal_pending && wait == Wait::Interruptible {
            return self.interrupt(id, Interrupted::Queued, Signal::Ordinary);
        }
        self.task_mut(id).stage = Stage::Queued { wait };
        Action::Queue { wait }
    }

    /// Detection off on this core, so that the instruction can complete.
    ///
    /// With mitigate=1 the work also releases the semaphore. With mitigate=0 (6.2, 727209376f49)
    /// there is no semaphore, and before the per-CPU work (6.15, c929d08df8be) a second CPU finds
    /// the only work item taken.
    fn open_window(&mut self, now: Jiffies, id: TaskId, cpu: CpuId) -> Action {
        let task = self.task_mut(id);
        task.stage = Stage::Running;
        task.carried = None;
        let unlocks = self.mitigate.then_some(id);
        let closes = self.detection.open(now, cpu, unlocks);
        Action::Retry(Retry::WindowOpen { cpu, closes })
    }

    /// The rate limit for bus locks (5.14, ef4ae6e44131): 20 ms at a time, deaf to signals, until
    /// the budget of this second has room.
    fn throttle(&mut self, now: Jiffies, id: TaskId) -> Action {
        let Some(wake) = self.rate_limit.admit_or_sleep(now) else {
            self.task_mut(id).stage = Stage::Running;
            return Action::Retry(Retry::BusLockDone);
        };
        self.task_mut(id).stage = Stage::Throttled { wake };
        Action::Sleep {
            wake,
            wait: Wait::Uninterruptible,
        }
    }

    fn relative_task(&self, task: &Task, now: Jiffies, out: &mut Vec<u64>) {
        let (stage, until) = match task.stage {
            Stage::Running => (0, 0),
            Stage::Asleep { expires, .. } => (1, expires.plus(Jiffies(2)).since(now).0),
            Stage::Queued { wait } => (2, wait as u64),
            Stage::Granted => (3, 0),
            Stage::Throttled { wake } => (4, wake.since(now).0),
            Stage::Gone => (5, 0),
        };
        let carried = match task.carried {
            None => 0,
            Some(Carried::Nothing) => 1,
            Some(Carried::Ticks(rest)) => rest.0 * 2 + 2,
            Some(Carried::Until(end)) => end.plus(Jiffies(1)).since(now).0 * 2 + 3,
        };
        // Of punishments that are over, only the order matters.
        let place = match task.carried {
            Some(Carried::Until(end)) => {
                let others = self.tasks.iter();
                let is_before =
                    |other: &&Task| matches!(other.carried, Some(Carried::Until(it)) if it < end);
                others.filter(is_before).count() as u64 + 1
            }
            _ => 0,
        };
        let flags = u64::from(task.exempt) << 1 | u64::from(task.reported);
        out.extend([stage, until, carried, place, flags]);
    }
}
