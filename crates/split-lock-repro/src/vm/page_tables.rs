//! Page tables that map a vCPU's addresses, from 0, to its part of physical memory, and one page to
//! where all vCPUs have it.
//!
//! Memory is mapped in 4 KiB pages, so that a guest can cross a real page boundary, and what lies
//! beyond it in 2 MiB pages. There are no 1 GiB pages: not every CPU, nor every KVM, has them.

use crate::layout::{
    MAPPED_END, MEMORY_SIZE, PAGE_TABLES, SHARED_PAGE, SHARED_PAGE_SIZE, SHARED_PHYSICAL,
    SYSTEM_END,
};

const _: () = assert!(SHARED_PAGE_SIZE == LARGE_PAGE && SHARED_PAGE.is_multiple_of(LARGE_PAGE));

const ENTRIES: u64 = 512;
const SMALL_PAGE: u64 = 4 << 10;
const LARGE_PAGE: u64 = 2 << 20;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
/// Set from the start, so that the CPU never has to write the tables: with shadow paging each such
/// write would be a page fault in the middle of a measurement.
const ACCESSED_AND_DIRTY: u64 = 1 << 5 | 1 << 6;
const LARGE: u64 = 1 << 7;

const TABLE: u64 = PRESENT | WRITABLE | USER | ACCESSED_AND_DIRTY;
const SYSTEM_PAGE: u64 = PRESENT | WRITABLE | ACCESSED_AND_DIRTY;
const PAGE: u64 = SYSTEM_PAGE | USER;

/// The tables as one piece, to be put at guest address [`PAGE_TABLES`] of the vCPU whose memory
/// starts at the physical address `base`. The first of them is the root.
pub(crate) fn page_tables(base: u64) -> Vec<u64> {
    let table = |number: u64| base + PAGE_TABLES + number * SMALL_PAGE;
    let small_tables = MEMORY_SIZE / LARGE_PAGE;
    let one_table = |entry: u64| (0..ENTRIES).map(move |n| if n == 0 { entry } else { 0 });

    let level4 = one_table(table(1) | TABLE);
    let level3 = one_table(table(2) | TABLE);
    let level2 = (0..MAPPED_END / LARGE_PAGE).map(|n| match n {
        n if n < small_tables => table(3 + n) | TABLE,
        n if n * LARGE_PAGE == SHARED_PAGE => SHARED_PHYSICAL | PAGE | LARGE,
        n => (base + n * LARGE_PAGE) | PAGE | LARGE,
    });
    let level1 = (0..MEMORY_SIZE / SMALL_PAGE).map(|n| match n * SMALL_PAGE {
        0 => 0,
        address if address < SYSTEM_END => (base + address) | SYSTEM_PAGE,
        address => (base + address) | PAGE,
    });
    level4.chain(level3).chain(level2).chain(level1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{MAX_VCPUS, OPERAND_PAGE_END, PHYSICAL_STRIDE, STACK_TOP};

    const FRAME: u64 = 0x000f_ffff_ffff_f000;

    /// What the CPU does on a TLB miss: the physical address, whether CPL3 may use it, and the size of
    /// the page.
    fn walk(tables: &[u64], base: u64, address: u64) -> Option<(u64, bool, u64)> {
        let mut table = base + PAGE_TABLES;
        let mut user = true;
        for (shift, page_size) in [(39, 0), (30, 1 << 30), (21, LARGE_PAGE), (12, SMALL_PAGE)] {
            let index = (table - base - PAGE_TABLES) / 8 + (address >> shift) % ENTRIES;
            let entry = tables[usize::try_from(index).unwrap()];
            if entry & PRESENT == 0 {
                return None;
            }
            assert_eq!(entry & ACCESSED_AND_DIRTY, ACCESSED_AND_DIRTY);
            assert_ne!(entry & WRITABLE, 0);
            user &= entry & USER != 0;
            if shift == 12 || entry & LARGE != 0 {
                let physical = (entry & FRAME) + address % page_size;
                return Some((physical, user, page_size));
            }
            table = entry & FRAME;
        }
        unreachable!("the last level returns")
    }

    #[test]
    fn every_page_but_the_shared_one_is_mapped_to_the_vcpus_own_memory() {
        for vcpu in [0, 1, MAX_VCPUS - 1] {
            let base = vcpu * PHYSICAL_STRIDE;
            let tables = page_tables(base);
            for address in (SMALL_PAGE..MAPPED_END).step_by(0x1000) {
                let is_shared = (SHARED_PAGE..SHARED_PAGE + SHARED_PAGE_SIZE).contains(&address);
                let physical = if is_shared { address } else { base + address };
                let small = address < MEMORY_SIZE;
                let page_size = if small { SMALL_PAGE } else { LARGE_PAGE };
                let mapping = Some((physical, address >= SYSTEM_END, page_size));
                assert_eq!(walk(&tables, base, address), mapping, "{address:#x}");
            }
        }
    }

    #[test]
    fn null_and_everything_beyond_are_not_mapped() {
        let tables = page_tables(0);
        for address in [0, 0xfff, MAPPED_END, 1 << 39, 1 << 47] {
            assert_eq!(walk(&tables, 0, address), None, "{address:#x}");
        }
    }

    #[test]
    fn the_tables_fit_below_the_stack_and_a_page_operand_lies_in_two_pages() {
        let end = PAGE_TABLES + page_tables(0).len() as u64 * 8;
        assert!(end <= SYSTEM_END && SYSTEM_END < STACK_TOP);
        assert_eq!(OPERAND_PAGE_END % SMALL_PAGE, 0);
    }
}
