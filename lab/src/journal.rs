//! What a kernel did to threads that split locks.

use serde::{Deserialize, Serialize};

/// Something that the kernel did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in nanoseconds since the machine was switched on.
    pub ns: u64,
    /// How many ticks the kernel had counted.
    pub jiffies: u64,
    /// The thread that this is about.
    pub pid: i32,
    /// The CPU on which it was noted.
    pub cpu: u16,
    /// What it was.
    pub kind: Kind,
    /// A signal waits for the thread.
    pub signal_pending: bool,
    /// The thread is a vCPU in KVM_RUN.
    pub guest: bool,
}

/// What the kernel did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A split lock met detection, at this address.
    Trap(u64),
    /// A bus lock was done, and the instruction behind it, at this address, met a debug exception.
    BusLock(u64),
    /// The handler begins its sleep of so many milliseconds.
    Sleep(i64),
    /// The thread sets a timer that asks for this tick.
    Timer(u64),
    /// The thread takes back, before it has expired, the timer that asked for this tick. Right after it the kernel
    /// looks how much of the sleep is left.
    Cancel(u64),
    /// Somebody wakes the thread.
    Wake,
    /// The sleep is over; so many milliseconds of it are left.
    Slept(i64),
    /// The handler wants the semaphore.
    Down,
    /// The thread joins the semaphore's queue. Noted while the semaphore is locked, so that this is
    /// the order of the queue.
    Line,
    /// It has it, or not.
    Took {
        /// It has.
        taken: bool,
    },
    /// The kernel switched this CPU's detection.
    Msr {
        /// On.
        on: bool,
    },
    /// The timer of the re-enable work has expired.
    Queue {
        /// The work releases the semaphore, too.
        unlocks: bool,
    },
    /// The re-enable work runs.
    Work {
        /// It releases the semaphore, too.
        unlocks: bool,
    },
    /// The re-enable work that releases the semaphore has returned.
    Worked,
    /// The handler is done; `false`: SIGBUS.
    Return {
        /// The instruction is to be tried again.
        retry: bool,
    },
    /// The thread's first split lock, after a trap, that meets no detection.
    Done,
    /// A signal was made for the thread.
    Signal(i64),
    /// A number from user space.
    Mark(i64),
    /// This CPU has counted a tick.
    Tick,
}
