//! A VM of the program.

use std::os::fd::OwnedFd;
use std::sync::{OnceLock, RwLock};

use split_lock_assist::pause::PauseGate;

use crate::slots::Slots;

#[derive(Debug)]
pub(crate) struct Vm {
    /// In the order in which the program has made them, from 0 on.
    pub(crate) number: u32,
    /// A duplicate of the VMM's.
    pub(crate) fd: OwnedFd,
    /// Locked while an instruction is emulated, and while KVM changes them.
    pub(crate) slots: RwLock<Slots>,
    pub(crate) gate: PauseGate,
    off: OnceLock<&'static str>,
}

impl Vm {
    pub(crate) fn new(number: u32, fd: OwnedFd) -> Self {
        Self {
            number,
            fd,
            slots: RwLock::default(),
            gate: PauseGate::new(),
            off: OnceLock::new(),
        }
    }

    /// Nothing is emulated in it any more.
    pub(crate) fn leave_to_cpu(&self, why: &'static str) {
        let _already = self.off.set(why);
    }

    pub(crate) fn is_left_to_cpu(&self) -> Option<&'static str> {
        self.off.get().copied()
    }
}
