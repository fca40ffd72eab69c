//! What is read, written and marked, and that nothing is where it is refused.

use split_lock_assist::memory::AccessError;
use split_lock_assist::paging::PageWalk;

use super::machine::{ACCESSED, DIRTY, FREE, LARGE, Machine, NO_EXECUTE, PRESENT, RAM_END, USER};
use super::*;

/// The first two pages, which do not lie side by side.
fn two_pages() -> Machine {
    Machine::with(&[
        (ROOT, 0x2000 | FREE),
        (0x2000, 0x3000 | FREE),
        (0x3000, 0x4000 | FREE),
        (0x4000, 0xa000 | FREE),
        (0x4008, 0x7000 | FREE),
        (0xaff8, 0x0807_0605_0403_0201),
        (0x7000, 0x1817_1615_1413_1211),
    ])
}

#[test]
fn an_update_marks_what_the_cpu_would_mark() {
    let machine = two_pages();
    let before = machine.update(LONG, 0xff8, &[0xff]).unwrap();
    assert_eq!(before, [1]);
    let mut expected = two_pages().contents();
    expected.extend([
        (ROOT, 0x2000 | FREE | ACCESSED),
        (0x2000, 0x3000 | FREE | ACCESSED),
        (0x3000, 0x4000 | FREE | ACCESSED),
        (0x4000, 0xa000 | FREE | ACCESSED | DIRTY),
        (0xaff8, 0x0807_0605_0403_02ff),
    ]);
    assert_eq!(machine.contents(), expected);
}

#[test]
fn an_update_across_pages_reaches_both() {
    for first_bytes in 1..16 {
        let machine = two_pages();
        let address = 0x1000 - first_bytes;
        let new: Vec<u8> = (0xe0..0xf0).collect();
        let before = machine.update(LONG, address, &new).unwrap();
        let boundary = first_bytes as usize;
        let old_first = (1..=8).rev().take(boundary.min(8)).rev();
        let old_first: Vec<u8> = vec![0; boundary.saturating_sub(8)]
            .into_iter()
            .chain(old_first)
            .collect();
        let old_second: Vec<u8> = (0x11..=0x18).chain([0; 8]).take(16 - boundary).collect();
        assert_eq!(before, [old_first, old_second].concat());
        assert_eq!(machine.update(LONG, address, &before).unwrap(), new);
        // Nothing beside it.
        let mut contents = machine.contents();
        contents.retain(|address, _| *address >= 0x5000);
        let mut original = two_pages().contents();
        original.retain(|address, _| *address >= 0x5000);
        assert_eq!(contents, original);
        for page in [0x4000, 0x4008] {
            assert_eq!(machine.get(page) & (ACCESSED | DIRTY), ACCESSED | DIRTY);
        }
    }
}

#[test]
fn an_update_is_refused_as_a_whole() {
    let missing = |address| AccessError::NotMapped { address };
    let read_only = |address| AccessError::NotWritable { address };
    let device = |address| AccessError::NotRam { address };
    for (first, second, error) in [
        (0, 0x7000 | FREE, missing(0xffc)),
        (0xa000 | FREE, 0, missing(0x1000)),
        (0xa000 | PRESENT | USER, 0x7000 | FREE, read_only(0xffc)),
        (0xa000 | FREE, 0x7000 | PRESENT | USER, read_only(0x1000)),
        (RAM_END | FREE, 0x7000 | FREE, device(0xffc)),
        (0xa000 | FREE, RAM_END | FREE, device(0x1000)),
    ] {
        let machine = two_pages();
        machine.set(0x4000, first);
        machine.set(0x4008, second);
        let before = machine.contents();
        assert_eq!(machine.update(LONG, 0xffc, &[9; 8]), Err(error));
        assert_eq!(machine.contents(), before);
    }
}

#[test]
fn a_large_page_is_marked_where_it_is_mapped() {
    let machine = Machine::with(&[
        (ROOT, 0x2000 | FREE),
        (0x2000, 0x3000 | FREE),
        (0x3000, 0x20_0000 | FREE | LARGE),
    ]);
    // Across two small pages of one large page.
    machine.update(LONG, 0x3ffc, &[7; 8]).unwrap();
    assert_eq!(
        machine.get(0x3000),
        0x20_0000 | FREE | LARGE | ACCESSED | DIRTY
    );
    assert_eq!(machine.get(0x20_3ff8), 0x0707_0707_0000_0000);
    assert_eq!(machine.get(0x20_4000), 0x0707_0707);
}

#[test]
fn entries_of_four_bytes_are_marked_alone() {
    let machine = Machine::with(&[
        (ROOT, (0x2000 | FREE) << 32 | 0xdead_be00),
        (0x2000, (0xbeef_0001 << 32) | 0x7000 | FREE),
    ]);
    machine.update(TWO_LEVELS, 1 << 22, &[1]).unwrap();
    assert_eq!(
        machine.get(ROOT),
        (0x2000 | FREE | ACCESSED) << 32 | 0xdead_be00
    );
    assert_eq!(
        machine.get(0x2000),
        (0xbeef_0001 << 32) | 0x7000 | FREE | ACCESSED | DIRTY
    );
}

#[test]
fn the_root_of_pae_is_not_marked() {
    let mut machine = Machine::with(&[
        (ROOT, 0x3000 | PRESENT),
        (0x3000, 0x4000 | FREE),
        (0x4000, 0x7000 | FREE),
    ]);
    machine.confirms = Some(true);
    machine.update(PAE, 0, &[1]).unwrap();
    assert_eq!(machine.get(ROOT), 0x3000 | PRESENT);
    assert_eq!(machine.get(0x3000), 0x4000 | FREE | ACCESSED);
    assert_eq!(machine.get(0x4000), 0x7000 | FREE | ACCESSED | DIRTY);
}

#[test]
fn tables_that_change_meanwhile_are_walked_again_but_not_for_ever() {
    let machine = two_pages();
    machine.disturbed.set(2);
    assert_eq!(machine.update(LONG, 0xff8, &[9]), Ok(vec![1]));

    let machine = two_pages();
    machine.disturbed.set(u32::MAX);
    let before = machine.contents();
    let refused = machine.update(LONG, 0xff8, &[9]);
    assert!(is_undecided(&refused), "{refused:?}");
    assert_eq!(machine.contents(), before);
}

#[test]
fn fetching_marks_nothing_and_stops_where_it_must() {
    let machine = two_pages();
    let before = machine.contents();
    let bytes: Vec<u8> = (1..=8).chain(0x11..=0x17).collect();
    assert_eq!(machine.fetch(LONG, 0xff8, 15), bytes);
    assert_eq!(machine.contents(), before);

    for second in [0, RAM_END | FREE, 0x7000 | FREE | NO_EXECUTE] {
        machine.set(0x4008, second);
        assert_eq!(machine.fetch(LONG, 0xff8, 15), bytes[..8]);
        assert_eq!(machine.fetch(LONG, 0x1000, 15), []);
    }
    let no_paging = PageWalk {
        cr3: 0,
        ..NO_PAGING
    };
    assert_eq!(machine.fetch(no_paging, 0xaff8, 4), [1, 2, 3, 4]);
}
