//! What the kernel is seen to do about split locks, whatever it was seen by.

use split_lock_model::handler::TrapOrigin;

use crate::thread_table::ThreadId;

/// One step of a thread, or of a CPU, at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// When, on CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// Where.
    pub cpu: u32,
    /// The thread that did it.
    pub tid: u32,
    /// Its process.
    pub pid: u32,
    /// What it was.
    pub kind: EventKind,
}

impl Event {
    pub(crate) fn thread(&self) -> ThreadId {
        let Event { pid, tid, .. } = *self;
        ThreadId { pid, tid }
    }
}

/// The steps that a thread takes, from the trap to the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A split lock has met detection, and the kernel's handler begins.
    Trap {
        /// Whose it was.
        origin: TrapOrigin,
        /// The instruction's address, where it is seen.
        rip: Option<u64>,
    },
    /// The thread sleeps in the handler. Only where traps are not seen: it tells of one.
    Asleep {
        /// Whose trap it was.
        origin: TrapOrigin,
        /// The instruction's address, where it is seen.
        rip: Option<u64>,
        /// The sleep lasts so long, unless something ends it.
        at_most_ns: u64,
    },
    /// Its sleep is over, with so many milliseconds left of it.
    Slept {
        /// More than none: a signal ended it, or kept it from beginning.
        left_ms: u64,
    },
    /// The handler is done, and the instruction is to be tried again, or the thread is to be killed.
    Back {
        /// It is to be tried again.
        retry: bool,
    },
    /// The thread switches its CPU's detection: off, and a window begins in which its instruction gets
    /// past; on, and the window is over.
    Detection {
        /// It switches it on.
        on: bool,
        /// Where traps are not seen: the handler of whose trap switches it off, and the instruction's address, where
        /// that is seen. This tells of a trap if no sleep did.
        of: Option<(TrapOrigin, Option<u64>)>,
    },
    /// From now on it is seen when the thread leaves its CPU and when it comes back to one.
    SwitchesSeen,
    /// The thread leaves its CPU.
    OffCpu {
        /// It would have gone on: others have the CPU. Otherwise it waits for something.
        is_preempted: bool,
    },
    /// It is on a CPU again.
    OnCpu,
}
