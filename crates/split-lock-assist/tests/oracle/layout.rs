//! Where things are in the arena.

use crate::sys::Access;

pub(crate) const PAGE: u64 = 4096;

/// An instruction and the way back.
pub(crate) const SLOT_BYTES: u64 = 15 + 8;
/// How many bytes of code there are for a batch.
pub(crate) const CODE_BYTES: u64 = 64 * PAGE;
/// Data that can be written; read-only, nothing and more writable data follow.
pub(crate) const WRITABLE_BYTES: u64 = 16 * PAGE;
/// All of the data that can be read.
pub(crate) const READABLE_BYTES: u64 = WRITABLE_BYTES + PAGE;
pub(crate) const DATA_BYTES: u64 = READABLE_BYTES + 2 * PAGE;

/// An arena: code, then a page that goes back to the test, then data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) code: u64,
    pub(crate) back: u64,
    pub(crate) data: u64,
}

impl Layout {
    pub(crate) const BYTES: u64 = CODE_BYTES + PAGE + DATA_BYTES;

    pub(crate) fn at(start: u64) -> Self {
        Self {
            code: start,
            back: start + CODE_BYTES,
            data: start + CODE_BYTES + PAGE,
        }
    }

    /// Where code segments begin: not at the code's start, so that an offset is not the address of
    /// anything else.
    pub(crate) fn code_segment(&self) -> u64 {
        self.code - 0x340
    }

    /// Where a code segment begins in whose last bytes there is code, too.
    pub(crate) fn code_segment_around(&self) -> u64 {
        self.code + 1000 * SLOT_BYTES
    }

    /// What a child may do where.
    pub(crate) fn access(&self) -> Vec<(u64, usize, Access)> {
        vec![
            (self.code, (CODE_BYTES + PAGE) as usize, Access::Execute),
            (self.data, WRITABLE_BYTES as usize, Access::ReadWrite),
            (self.data + WRITABLE_BYTES, PAGE as usize, Access::ReadOnly),
            (self.data + READABLE_BYTES, PAGE as usize, Access::Nothing),
            (
                self.data + READABLE_BYTES + PAGE,
                PAGE as usize,
                Access::ReadWrite,
            ),
        ]
    }

    /// What may be done with a byte of data. Nothing, where there is no data.
    pub(crate) fn data_access(&self, address: u64) -> Access {
        match address.wrapping_sub(self.data) {
            0..WRITABLE_BYTES => Access::ReadWrite,
            WRITABLE_BYTES..READABLE_BYTES => Access::ReadOnly,
            offset if (READABLE_BYTES + PAGE..DATA_BYTES).contains(&offset) => Access::ReadWrite,
            _ => Access::Nothing,
        }
    }

    pub(crate) fn holds(&self, address: u64) -> bool {
        address.wrapping_sub(self.code) < Self::BYTES
    }

    pub(crate) fn is_writable(&self, address: u64, bytes: u64) -> bool {
        address.wrapping_sub(self.data) <= WRITABLE_BYTES - bytes
    }
}
