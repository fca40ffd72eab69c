//! Who has a breakpoint where.

use std::cell::Cell;

use super::support::BreakpointSupport;
use crate::breakpoint_slots::SLOTS;

/// What the debug registers of one vCPU are used for.
#[derive(Debug)]
pub(super) struct DebugRegisters {
    pub(super) support: BreakpointSupport,
    pub(super) set: Cell<[Option<u64>; SLOTS]>,
    /// One instruction is being executed, and nothing is watched meanwhile.
    pub(super) stepping: Cell<bool>,
    /// What the guest did with its own when that was last looked at.
    pub(super) guest_armed: Cell<bool>,
}

impl DebugRegisters {
    pub(super) fn new(support: BreakpointSupport) -> Self {
        Self {
            support,
            set: Cell::default(),
            stepping: Cell::new(false),
            guest_armed: Cell::new(false),
        }
    }

    pub(super) fn is_in_use(&self) -> bool {
        self.is_watching() || self.stepping.get()
    }

    pub(super) fn is_watching(&self) -> bool {
        self.set.get().iter().any(Option::is_some)
    }
}
