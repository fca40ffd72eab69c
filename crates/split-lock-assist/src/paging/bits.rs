//! Bits of page-table entries and control registers.

pub(super) const PRESENT: u64 = 1 << 0;
pub(super) const WRITABLE: u64 = 1 << 1;
pub(super) const USER: u64 = 1 << 2;
pub(super) const ACCESSED: u64 = 1 << 5;
pub(super) const DIRTY: u64 = 1 << 6;
pub(super) const LARGE: u64 = 1 << 7;
pub(super) const NO_EXECUTE: u64 = 1 << 63;
pub(super) const PROTECTION_KEY: u64 = bits(59, 62);

pub(super) const CR0_WRITE_PROTECT: u64 = 1 << 16;
pub(super) const CR0_PAGING: u64 = 1 << 31;
pub(super) const CR4_LARGE_PAGES: u64 = 1 << 4;
pub(super) const CR4_PAE: u64 = 1 << 5;
pub(super) const CR4_FIVE_LEVELS: u64 = 1 << 12;
pub(super) const CR4_SMEP: u64 = 1 << 20;
pub(super) const CR4_SMAP: u64 = 1 << 21;
pub(super) const CR4_USER_KEYS: u64 = 1 << 22;
pub(super) const CR4_SUPERVISOR_KEYS: u64 = 1 << 24;
pub(super) const EFER_LONG_MODE_ACTIVE: u64 = 1 << 10;
pub(super) const EFER_NO_EXECUTE: u64 = 1 << 11;

/// From `first` to `last`, both included.
pub(super) const fn bits(first: u32, last: u32) -> u64 {
    (u64::MAX >> (63 - last)) & (u64::MAX << first)
}
