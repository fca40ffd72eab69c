//! Page tables of all formats, built by hand.

mod formats;
mod machine;
mod rights;
mod updates;

use split_lock_assist::memory::AccessError;
use split_lock_assist::paging::PageWalk;

const CR0_PROTECTED: u64 = 1;
const CR0_WRITE_PROTECT: u64 = 1 << 16;
const CR0_PAGING: u64 = 1 << 31;
const CR4_LARGE_PAGES: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_FIVE_LEVELS: u64 = 1 << 12;
const LONG_MODE: u64 = 1 << 8 | 1 << 10;
const NO_EXECUTE_ENABLED: u64 = 1 << 11;

/// Where all the tables begin.
const ROOT: u64 = 0x1000;

/// CPL 3, four levels.
const LONG: PageWalk = PageWalk {
    cr0: CR0_PROTECTED | CR0_WRITE_PROTECT | CR0_PAGING,
    cr3: ROOT,
    cr4: CR4_PAE,
    efer: LONG_MODE | NO_EXECUTE_ENABLED,
    cpl: 3,
    rflags: 2,
};

const LONG_57: PageWalk = PageWalk {
    cr4: CR4_PAE | CR4_FIVE_LEVELS,
    ..LONG
};

const PAE: PageWalk = PageWalk {
    efer: NO_EXECUTE_ENABLED,
    ..LONG
};

const TWO_LEVELS: PageWalk = PageWalk {
    cr4: CR4_LARGE_PAGES,
    efer: 0,
    ..LONG
};

const NO_PAGING: PageWalk = PageWalk {
    cr0: CR0_PROTECTED,
    ..TWO_LEVELS
};

fn is_undecided<T>(result: &Result<T, AccessError>) -> bool {
    matches!(result, Err(AccessError::Undecided { .. }))
}
