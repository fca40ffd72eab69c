//! The bytes that a guest accesses.

use crate::layout::CACHE_LINE;

/// The bytes that a built-in guest accesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operand {
    /// Guest address of the first byte.
    pub address: u64,
    /// How many bytes.
    pub size: u64,
}

impl Operand {
    /// Whether it lies in more than one 64-byte cache line.
    #[must_use]
    pub fn crosses_line(self) -> bool {
        self.address / CACHE_LINE != (self.address + self.size - 1) / CACHE_LINE
    }
}
