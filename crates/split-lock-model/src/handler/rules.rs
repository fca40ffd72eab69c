//! The choices in the handler's punishment: what the kernel does, and what it could do.

use super::wait::Wait;

/// The points at which the punishment of mode `warn` could be designed differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    /// What may interrupt the sleep and the wait for the semaphore.
    pub wait: Wait,
    /// What a signal during the sleep leads to.
    pub on_signal: OnSignal,
    /// Whether the semaphore's queue is in the order in which punishments end. A thread that a signal took out of it is
    /// passed over while it is away, and comes back to its place; once it has been first, only a deadly signal takes it out.
    /// For [`OnSignal::FixedEnd`].
    pub keep_place: bool,
}

/// What happens to a thread whose sleep a signal interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnSignal {
    /// Back to the instruction with detection on; the next trap sleeps from the beginning.
    StartOver,
    /// On to the semaphore, as if the sleep were complete.
    Proceed,
    /// Back to the instruction; the next trap sleeps only the ticks not yet slept.
    RemainingSleep,
    /// Back to the instruction; the tick at which the sleep would have ended stands, and a trap after
    /// it sleeps no more.
    FixedEnd,
}

impl Rules {
    /// Every kernel since 5.19 (b041b525dab9): both waits interruptible, and nothing remembered.
    /// The kernel assumes that the signal kills the thread or leads it away from the instruction.
    pub const UPSTREAM: Self = Self {
        wait: Wait::Interruptible,
        on_signal: OnSignal::StartOver,
        keep_place: false,
    };
}
