//! A locked access to data.

use std::fmt;

use super::{Instruction, Operation, Source};
use crate::cpu::Mode;

/// The size of a cache line, beyond which a lock becomes a bus lock.
pub const LINE_BYTES: u64 = 64;

/// The size of the smallest page.
pub const PAGE_BYTES: u64 = 4096;

/// A locked read-modify-write: which instruction, and where its operand lies.
///
/// Shown as the instruction's disassembly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LockedAccess {
    pub(super) instruction: Instruction,
    pub(super) operation: Operation,
    pub(super) source: Source,
    pub(super) address: u64,
    pub(super) size: usize,
    pub(super) explicit: bool,
}

impl LockedAccess {
    /// The instruction.
    #[must_use]
    pub fn instruction(&self) -> &Instruction {
        &self.instruction
    }

    /// Linear address of the operand's first byte.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// How many bytes the operand has: 1, 2, 4, 8 or 16.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// How many bytes the instruction has.
    #[must_use]
    pub fn length(&self) -> usize {
        self.instruction.length()
    }

    /// There is a LOCK prefix. XCHG locks without one.
    #[must_use]
    pub fn has_lock_prefix(&self) -> bool {
        self.explicit
    }

    /// It touches two cache lines: this is a split lock.
    #[must_use]
    pub fn crosses_line(&self) -> bool {
        self.line_boundary().is_some()
    }

    /// It touches two pages of 4 KiB.
    #[must_use]
    pub fn crosses_page(&self) -> bool {
        self.page_boundary().is_some()
    }

    /// Linear address at which its second cache line begins, if it has one.
    #[must_use]
    pub fn line_boundary(&self) -> Option<u64> {
        self.boundary(LINE_BYTES)
    }

    /// Linear address at which its second page of 4 KiB begins, if it has one.
    #[must_use]
    pub fn page_boundary(&self) -> Option<u64> {
        self.boundary(PAGE_BYTES)
    }

    /// It begins at the end of the address space and ends at its start.
    #[must_use]
    pub fn wraps_around(&self) -> bool {
        let last = match self.instruction.mode() {
            Mode::Bits64 => u64::MAX,
            Mode::Bits16 | Mode::Bits32 => u64::from(u32::MAX),
        };
        self.bytes_after_first() > last - self.address
    }

    /// Its address is a multiple of its size.
    #[must_use]
    pub fn is_aligned(&self) -> bool {
        self.address & self.bytes_after_first() == 0
    }

    pub(crate) fn operation(&self) -> Operation {
        self.operation
    }

    pub(crate) fn source(&self) -> Source {
        self.source
    }

    fn bytes_after_first(&self) -> u64 {
        self.size as u64 - 1
    }

    fn boundary(&self, unit: u64) -> Option<u64> {
        let last = self.address.wrapping_add(self.bytes_after_first());
        let begin = last & !(unit - 1);
        (self.address & !(unit - 1) != begin).then(|| match self.instruction.mode() {
            Mode::Bits64 => begin,
            Mode::Bits16 | Mode::Bits32 => begin & u64::from(u32::MAX),
        })
    }
}

impl fmt::Display for LockedAccess {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.instruction.fmt(out)
    }
}
