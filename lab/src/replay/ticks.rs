//! The machine that a kernel ran on: above all, where its ticks lie on its clock.

use split_lock_model::machine::Topology;
use split_lock_model::time::{Hz, Nanos, TickClock, UnknownHz};

use crate::journal::{Event, State};

/// How long after its moment a tick may be counted: interrupts are off for a while now and then,
/// and a machine that has slept catches up when it wakes.
pub const LATE_TICK_NS: u64 = 200_000;

/// What a journal was written on.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Its CPUs.
    pub topology: Topology,
    /// Its ticks.
    pub ticks: Ticks,
}

/// The ticks of one boot: their phase was read from the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    clock: TickClock,
    /// What the kernel's count is ahead of the clock's.
    ahead: u64,
}

impl Ticks {
    /// From one tick that the module has named.
    ///
    /// # Errors
    /// If no x86 kernel ticks at the rate that it names.
    pub fn new(state: &State) -> Result<Self, UnknownHz> {
        let clock = TickClock::new(Hz::new(state.hz)?, Nanos(state.tick_ns));
        let counted = clock.jiffies_at(Nanos(state.tick_ns)).0;
        Ok(Self {
            clock,
            ahead: state.tick_jiffies.wrapping_sub(counted),
        })
    }

    /// The clock that the model computes with.
    #[must_use]
    pub const fn clock(&self) -> TickClock {
        self.clock
    }

    /// The kernel's count of ticks at a moment, if no tick is late.
    #[must_use]
    pub const fn at(&self, ns: u64) -> u64 {
        self.clock.jiffies_at(Nanos(ns)).0.wrapping_add(self.ahead)
    }

    /// Whether an event's count of ticks is that of its moment, or of [`LATE_TICK_NS`] before.
    #[must_use]
    pub const fn agree_with(&self, event: &Event) -> bool {
        let earlier = self.at(event.ns.saturating_sub(LATE_TICK_NS));
        earlier <= event.jiffies && event.jiffies <= self.at(event.ns)
    }
}
