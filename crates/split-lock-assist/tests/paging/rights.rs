//! Who may do what.

use split_lock_assist::memory::AccessError;
use split_lock_assist::paging::{Access, PageWalk};

use super::machine::{FREE, Machine, NO_EXECUTE, PRESENT, USER, WRITABLE};
use super::*;

const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const CR4_USER_KEYS: u64 = 1 << 22;
const CR4_SUPERVISOR_KEYS: u64 = 1 << 24;
const ALIGNMENT_CHECK: u64 = 1 << 18;

/// The first address, by four entries with these bits.
fn mapped_with(bits: [u64; 4]) -> Machine {
    let entries = [ROOT, 0x2000, 0x3000, 0x4000];
    let targets = [0x2000, 0x3000, 0x4000, 0x7000];
    let machine = Machine::default();
    for ((entry, target), bits) in entries.into_iter().zip(targets).zip(bits) {
        machine.set(entry, target | bits);
    }
    machine
}

fn allows(machine: &Machine, walk: PageWalk, access: Access) -> bool {
    walk.translate(&machine, 0, access).is_ok()
}

fn each_bool() -> impl Iterator<Item = bool> + Clone {
    [false, true].into_iter()
}

#[test]
fn writing_takes_every_level_of_the_tables() {
    for restricted in 0..4 {
        for (user, writable) in each_bool().flat_map(|u| each_bool().map(move |w| (u, w))) {
            let mut bits = [FREE; 4];
            if !user {
                bits[restricted] &= !USER;
            }
            if !writable {
                bits[restricted] &= !WRITABLE;
            }
            let machine = mapped_with(bits);
            let (cpl3, cpl0) = (LONG, PageWalk { cpl: 0, ..LONG });
            assert_eq!(allows(&machine, cpl3, Access::Write), user && writable);
            assert_eq!(allows(&machine, cpl0, Access::Write), writable);
            let careless = PageWalk {
                cr0: CR0_PROTECTED | CR0_PAGING,
                ..cpl0
            };
            assert!(allows(&machine, careless, Access::Write));
            let careless_user = PageWalk { cpl: 3, ..careless };
            assert_eq!(
                allows(&machine, careless_user, Access::Write),
                user && writable
            );
        }
    }
}

#[test]
fn levels_1_and_2_are_supervisors() {
    let machine = mapped_with([FREE, FREE, FREE, PRESENT | WRITABLE]);
    for cpl in [1, 2] {
        assert!(allows(&machine, PageWalk { cpl, ..LONG }, Access::Write));
    }
}

#[test]
fn smap_keeps_the_kernel_off_user_pages_unless_it_says_so() {
    let user_page = mapped_with([FREE; 4]);
    let kernel_page = mapped_with([FREE, FREE, FREE, PRESENT | WRITABLE]);
    let smap = PageWalk {
        cr4: CR4_PAE | CR4_SMAP,
        cpl: 0,
        ..LONG
    };
    let on_purpose = PageWalk {
        rflags: ALIGNMENT_CHECK,
        ..smap
    };
    assert_eq!(
        smap.translate(&&user_page, 0, Access::Write),
        Err(AccessError::NotWritable { address: 0 })
    );
    assert!(allows(&user_page, on_purpose, Access::Write));
    assert!(allows(&kernel_page, smap, Access::Write));
    assert!(allows(
        &user_page,
        PageWalk { cpl: 3, ..smap },
        Access::Write
    ));
}

#[test]
fn no_level_may_forbid_execution() {
    for forbidden in 0..4 {
        let mut bits = [FREE; 4];
        bits[forbidden] |= NO_EXECUTE;
        let machine = mapped_with(bits);
        assert!(!allows(&machine, LONG, Access::Fetch));
        assert!(allows(&machine, LONG, Access::Write));
    }
    let read_only = mapped_with([FREE, FREE, FREE, PRESENT | USER]);
    assert!(allows(&read_only, LONG, Access::Fetch));
}

#[test]
fn code_is_fetched_at_the_right_level() {
    let user_page = mapped_with([FREE; 4]);
    let kernel_page = mapped_with([FREE, FREE, FREE, PRESENT]);
    let kernel = PageWalk { cpl: 0, ..LONG };
    let smep = PageWalk {
        cr4: CR4_PAE | CR4_SMEP,
        ..kernel
    };
    assert!(!allows(&kernel_page, LONG, Access::Fetch));
    assert!(allows(&kernel_page, smep, Access::Fetch));
    assert!(allows(&user_page, kernel, Access::Fetch));
    assert!(!allows(&user_page, smep, Access::Fetch));
}

#[test]
fn protection_keys_other_than_0_are_not_guessed_at() {
    for (page, cr4) in [
        (FREE, CR4_USER_KEYS),
        (PRESENT | WRITABLE, CR4_SUPERVISOR_KEYS),
    ] {
        for key in 0..16 {
            let machine = mapped_with([FREE, FREE, FREE, page | key << 59]);
            let kernel = PageWalk { cpl: 0, ..LONG };
            let with_keys = PageWalk {
                cr4: CR4_PAE | cr4,
                ..kernel
            };
            let others = PageWalk {
                cr4: CR4_PAE | (CR4_USER_KEYS | CR4_SUPERVISOR_KEYS) & !cr4,
                ..kernel
            };
            let result = with_keys.translate(&&machine, 0, Access::Write);
            let undecided = is_undecided(&result);
            assert_eq!((result.is_ok(), undecided), (key == 0, key != 0));
            assert!(allows(&machine, others, Access::Write));
            assert!(allows(&machine, with_keys, Access::Fetch));
        }
    }
}
