//! The formats that page tables have.

use super::bits::{LARGE, bits};

/// How a CPU with paging switched on reads its tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    /// From the root down. The last one holds pages only.
    pub(super) levels: &'static [Level],
    /// The bits of CR3 in which the root is.
    pub(super) root: u64,
    pub(super) entry_bytes: u64,
    /// In every entry.
    reserved: u64,
    /// How many bits of a linear address are translated; in 64-bit mode the others repeat the highest.
    pub(super) linear_bits: u32,
    /// Bit 7 is looked at.
    pub(super) large_pages: bool,
}

/// One level of the tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level {
    /// The lowest bit of the linear address that selects an entry.
    pub(super) shift: u32,
    index_bits: u32,
    large: Large,
    reserved_in_table: u64,
    reserved_in_page: u64,
    /// Its entries say who may do what, and have an accessed bit.
    pub(super) has_rights: bool,
}

/// Whether entries of a level are pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Large {
    Never,
    IfMarked,
    Always,
}

const FRAME: u64 = bits(12, 51);
const FRAME_32: u64 = bits(12, 31);

impl Format {
    /// Whether an entry is a page, and not a table.
    pub(super) fn is_page(&self, level: &Level, entry: u64) -> bool {
        match level.large {
            Large::Never => false,
            Large::IfMarked => self.large_pages && entry & LARGE != 0,
            Large::Always => true,
        }
    }

    /// The bits of an entry that must not be set.
    pub(super) fn reserved(&self, level: &Level, is_page: bool) -> u64 {
        self.reserved
            | if is_page {
                level.reserved_in_page
            } else {
                level.reserved_in_table
            }
    }

    pub(super) fn table(&self, entry: u64) -> u64 {
        entry & self.frame_mask()
    }

    /// Where in physical memory a page begins.
    pub(super) fn page(&self, level: &Level, entry: u64) -> u64 {
        let page = entry & self.frame_mask() & !(level.page_bytes() - 1);
        if self.entry_bytes == 4 && level.large == Large::IfMarked {
            // PSE-36: bits 32 and up of the address stand in bits 13 and up of the entry.
            page | (entry & bits(13, 16)) << 19
        } else {
            page
        }
    }

    fn frame_mask(&self) -> u64 {
        if self.entry_bytes == 4 {
            FRAME_32
        } else {
            FRAME
        }
    }
}

impl Level {
    pub(super) fn index(&self, address: u64) -> u64 {
        address >> self.shift & ((1 << self.index_bits) - 1)
    }

    pub(super) fn page_bytes(&self) -> u64 {
        1 << self.shift
    }
}

const PAGES: Level = Level {
    shift: 12,
    index_bits: 9,
    large: Large::Always,
    reserved_in_table: 0,
    reserved_in_page: 0,
    has_rights: true,
};

const LARGE_PAGES: Level = Level {
    shift: 21,
    large: Large::IfMarked,
    reserved_in_page: bits(13, 20),
    ..PAGES
};

/// Bit 8 of an entry that is a table is reserved on AMD's CPUs, here and in the next, and ignored on
/// Intel's.
const HUGE_PAGES: Level = Level {
    shift: 30,
    large: Large::IfMarked,
    reserved_in_table: bits(8, 8),
    reserved_in_page: bits(13, 29),
    ..PAGES
};

const LEVEL_4: Level = Level {
    shift: 39,
    large: Large::Never,
    reserved_in_table: bits(7, 8),
    ..PAGES
};

const LEVEL_5: Level = Level {
    shift: 48,
    reserved_in_table: LARGE,
    ..LEVEL_4
};

/// The four entries that CR3 points at. CPUs may have read them when CR3 was loaded.
const PAE_ROOT: Level = Level {
    shift: 30,
    index_bits: 2,
    large: Large::Never,
    reserved_in_table: bits(1, 2) | bits(5, 8) | bits(63, 63),
    has_rights: false,
    ..PAGES
};

pub(super) const LONG_MODE_48: Format = Format {
    levels: &[LEVEL_4, HUGE_PAGES, LARGE_PAGES, PAGES],
    root: FRAME,
    entry_bytes: 8,
    reserved: 0,
    linear_bits: 48,
    large_pages: true,
};

pub(super) const LONG_MODE_57: Format = Format {
    levels: &[LEVEL_5, LEVEL_4, HUGE_PAGES, LARGE_PAGES, PAGES],
    linear_bits: 57,
    ..LONG_MODE_48
};

pub(super) const PAE: Format = Format {
    levels: &[PAE_ROOT, LARGE_PAGES, PAGES],
    root: bits(5, 31),
    entry_bytes: 8,
    reserved: bits(52, 62),
    linear_bits: 32,
    large_pages: true,
};

pub(super) const TWO_LEVELS: Format = Format {
    levels: &[
        Level {
            shift: 22,
            index_bits: 10,
            // CPUs with more than 36 bits of physical address take more of them; KVM does not.
            reserved_in_page: bits(17, 21),
            ..LARGE_PAGES
        },
        Level {
            index_bits: 10,
            ..PAGES
        },
    ],
    root: FRAME_32,
    entry_bytes: 4,
    reserved: 0,
    linear_bits: 32,
    large_pages: false,
};
