//! What goes into the handler, and what comes out.

use serde::{Deserialize, Serialize};

use super::task::TaskId;
use super::wait::Wait;
use crate::machine::CpuId;
use crate::time::Jiffies;

/// Whose code executed the split lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrapOrigin {
    /// A vCPU thread inside KVM_RUN: `handle_guest_split_lock`.
    Guest,
    /// An ordinary thread: `handle_user_split_lock`.
    User,
}

impl TrapOrigin {
    /// In a word: `guest` or `user`, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::User => "user",
        }
    }
}

/// A split lock met detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// The thread.
    pub task: TaskId,
    /// The CPU it runs on.
    pub cpu: CpuId,
    /// In a guest or not.
    pub origin: TrapOrigin,
    /// The code itself asked for alignment checks: EFLAGS.AC of a user thread; for a guest CPL 3
    /// with CR0.AM and EFLAGS.AC.
    pub alignment_check: bool,
    /// A signal already waits for the thread.
    pub signal_pending: bool,
}

impl Trap {
    /// The usual case: no alignment checks, no signal waiting.
    #[must_use]
    pub const fn new(task: TaskId, cpu: CpuId, origin: TrapOrigin) -> Self {
        Self {
            task,
            cpu,
            origin,
            alignment_check: false,
            signal_pending: false,
        }
    }
}

/// What the handler made of a trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trapped {
    /// The line that goes to the kernel log, before rate limiting.
    pub message: Option<Message>,
    /// What the thread does.
    pub action: Action,
}

/// A line in the kernel log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// `#AC: ... took a split_lock trap`: once per thread since 5.19, every time before.
    SplitLock,
    /// `#AC: ... fatal split_lock trap`: guests, once per boot.
    FatalGuest,
    /// `#AC: ... bogus split_lock trap`: guests while no detection is armed, once per boot.
    BogusGuest,
    /// `#DB: ... took a bus_lock trap`: every time.
    BusLock,
}

/// What the thread does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Return to the instruction and try it again.
    Retry(Retry),
    /// Sleep until the count of ticks reaches `wake`, or as `wait` allows.
    Sleep {
        /// The tick that ends the sleep. Ticks are counted when they happen, so a sleep that begins
        /// right after a tick is a whole tick longer than one that begins right before it.
        wake: Jiffies,
        /// What may end it early.
        wait: Wait,
    },
    /// Wait until the semaphore is handed over.
    Queue {
        /// What may end it early.
        wait: Wait,
    },
    /// SIGBUS. A user thread that does not catch it dies; a vCPU thread also returns from KVM_RUN
    /// with KVM_EXIT_EXCEPTION and vector 17.
    Sigbus,
    /// The guest asked for alignment checks: inject #AC into it.
    InjectAlignmentCheck,
    /// A killed thread does not return to its instruction.
    Die,
}

/// Why the instruction is tried again, and with what prospects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Detection is now off on this CPU's core: the instruction completes, if the thread comes back
    /// to this core in time.
    WindowOpen {
        /// The CPU whose core it is.
        cpu: CpuId,
        /// The tick from which the re-enable work can run. `None` is the old mitigate=0 bug: the one
        /// work item already waits for another CPU, and nothing will switch this core on again.
        closes: Option<Jiffies>,
    },
    /// Detection is still on: the instruction will trap again.
    DetectionOn(Interrupted),
    /// Detection is off for this thread, for life (5.7 to 5.18).
    ThreadExempt,
    /// After a bus-lock trap: the instruction is already done, go on with the next.
    BusLockDone,
}

/// Where a signal cut the punishment short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interrupted {
    /// The signal was there before the sleep: no time passed at all.
    BeforeSleep,
    /// During the sleep.
    Asleep,
    /// While waiting for the semaphore.
    Queued,
}
