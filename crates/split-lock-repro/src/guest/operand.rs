//! The bytes that a guest accesses, and which boundaries they cross.

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
        self.crosses(CACHE_LINE)
    }

    /// Whether it lies in more than one 4 KiB page.
    #[must_use]
    pub fn crosses_page(self) -> bool {
        self.crosses(4096)
    }

    fn crosses(self, boundary: u64) -> bool {
        self.address / boundary != (self.address + self.size - 1) / boundary
    }
}
