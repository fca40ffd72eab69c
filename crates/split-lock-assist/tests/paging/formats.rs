//! How tables of each format are read.

use split_lock_assist::memory::AccessError;
use split_lock_assist::paging::{Access, PageWalk};

use super::machine::{FREE, LARGE, Machine, NO_EXECUTE, PRESENT};
use super::*;

fn physical(machine: &Machine, walk: PageWalk, address: u64) -> Result<u64, AccessError> {
    walk.translate(&machine, address, Access::Write)
        .map(|translation| translation.physical())
}

/// Four levels, of which `address` takes the entry numbered so in each.
const LONG_ADDRESS: u64 = 1 << 39 | 2 << 30 | 3 << 21 | 4 << 12 | 0x567;
/// Where they are.
const LEVEL_4: u64 = ROOT + 8;
const LEVEL_3: u64 = 0x2000 + 8 * 2;
const LEVEL_2: u64 = 0x3000 + 8 * 3;
const LEVEL_1: u64 = 0x4000 + 8 * 4;

fn long_mode() -> Machine {
    Machine::with(&[
        (LEVEL_4, 0x2000 | FREE),
        (LEVEL_3, 0x3000 | FREE),
        (LEVEL_2, 0x4000 | FREE),
        (LEVEL_1, 0x12_3456_7000 | FREE),
    ])
}

#[test]
fn without_paging_addresses_are_physical() {
    let machine = Machine::default();
    assert_eq!(physical(&machine, NO_PAGING, 0x1234), Ok(0x1234));
}

#[test]
fn four_levels() {
    let machine = long_mode();
    assert_eq!(physical(&machine, LONG, LONG_ADDRESS), Ok(0x12_3456_7567));
    for entry in [LEVEL_4, LEVEL_3, LEVEL_2, LEVEL_1] {
        let machine = long_mode();
        machine.set(entry, machine.get(entry) & !PRESENT);
        let address = LONG_ADDRESS;
        assert_eq!(
            physical(&machine, LONG, address),
            Err(AccessError::NotMapped { address })
        );
    }
}

#[test]
fn bits_of_cr3_that_are_no_address_do_not_count() {
    let walk = PageWalk {
        // A process context, and the masks of LAM.
        cr3: ROOT | 0xabc | 1 << 61 | 1 << 62,
        ..LONG
    };
    assert_eq!(
        physical(&long_mode(), walk, LONG_ADDRESS),
        Ok(0x12_3456_7567)
    );
}

#[test]
fn large_pages_of_long_mode() {
    let machine = long_mode();
    machine.set(LEVEL_2, 0x12_3460_0000 | FREE | LARGE);
    assert_eq!(physical(&machine, LONG, LONG_ADDRESS), Ok(0x12_3460_4567));
    // Bit 12 is a memory type here.
    machine.set(LEVEL_2, 0x12_3460_0000 | FREE | LARGE | 1 << 12);
    assert_eq!(physical(&machine, LONG, LONG_ADDRESS), Ok(0x12_3460_4567));
}

#[test]
fn pages_of_1_gib_are_confirmed_by_the_cpu() {
    let mut machine = long_mode();
    machine.set(LEVEL_3, 0x12_4000_0000 | FREE | LARGE);
    machine.confirms = Some(true);
    assert_eq!(physical(&machine, LONG, LONG_ADDRESS), Ok(0x12_4060_4567));
    assert_eq!(machine.update(LONG, LONG_ADDRESS, &[1]), Ok(vec![0]));
    machine.confirms = Some(false);
    let refused = machine.update(LONG, LONG_ADDRESS, &[2]);
    assert!(is_undecided(&refused), "{refused:?}");
    assert_eq!(machine.get(0x12_4060_4560), 1 << 56);
}

#[test]
fn five_levels() {
    let machine = long_mode();
    // A root above that of four levels.
    let walk = PageWalk {
        cr3: 0x9000,
        ..LONG_57
    };
    machine.set(0x9000 + 8 * 5, ROOT | FREE);
    let address = 5 << 48 | LONG_ADDRESS;
    assert_eq!(physical(&machine, walk, address), Ok(0x12_3456_7567));
    machine.set(0x9000 + 8 * 5, ROOT | FREE | LARGE);
    assert!(is_undecided(&physical(&machine, walk, address)));
}

#[test]
fn addresses_that_are_not_canonical_are_not_mapped() {
    let machine = long_mode();
    for (walk, address) in [
        (LONG, 1 << 47 | LONG_ADDRESS),
        (LONG, 1 << 48 | LONG_ADDRESS),
        (LONG, u64::MAX >> 1),
        (LONG_57, 1 << 56 | LONG_ADDRESS),
        (LONG_57, 1 << 57 | LONG_ADDRESS),
        (PAE, 1 << 32),
        (TWO_LEVELS, 1 << 32),
    ] {
        assert_eq!(
            physical(&machine, walk, address),
            Err(AccessError::NotMapped { address })
        );
    }
    // The upper half.
    machine.set(ROOT + 8 * 511, 0x2000 | FREE);
    let address = u64::MAX << 39 | (LONG_ADDRESS & ((1 << 39) - 1));
    assert_eq!(physical(&machine, LONG, address), Ok(0x12_3456_7567));
}

#[test]
fn reserved_bits_of_long_mode_are_not_guessed_at() {
    let reserved_without_nx = [NO_EXECUTE];
    let no_nx = PageWalk {
        efer: LONG_MODE,
        ..LONG
    };
    for (walk, entry, marks, bits) in [
        (LONG, LEVEL_4, 0, &[1 << 7, 1 << 8][..]),
        (LONG, LEVEL_3, 0, &[1 << 8]),
        (LONG, LEVEL_3, LARGE, &[1 << 13, 1 << 20, 1 << 29]),
        (LONG, LEVEL_2, LARGE, &[1 << 13, 1 << 20]),
        (no_nx, LEVEL_4, 0, &reserved_without_nx),
        (no_nx, LEVEL_2, LARGE, &reserved_without_nx),
        (no_nx, LEVEL_1, 0, &reserved_without_nx),
    ] {
        for bit in bits {
            let mut machine = long_mode();
            machine.confirms = Some(true);
            let large_pages = if marks == 0 { u64::MAX } else { !0x3fff_f000 };
            let plain = machine.get(entry) & large_pages | marks;
            machine.set(entry, plain);
            assert!(physical(&machine, walk, LONG_ADDRESS).is_ok());
            machine.set(entry, plain | bit);
            let result = physical(&machine, walk, LONG_ADDRESS);
            assert!(is_undecided(&result), "{entry:#x} {bit:#x}: {result:x?}");
        }
    }
}

#[test]
fn pae() {
    const ADDRESS: u64 = 3 << 30 | 3 << 21 | 4 << 12 | 0x567;
    const ROOT_ENTRY: u64 = 0x5020 + 8 * 3;
    // The root has only to be a multiple of 32.
    let walk = PageWalk { cr3: 0x5020, ..PAE };
    let mut machine = long_mode();
    machine.set(ROOT_ENTRY, 0x3000 | PRESENT);
    machine.confirms = Some(true);
    assert_eq!(physical(&machine, walk, ADDRESS), Ok(0x12_3456_7567));

    machine.set(LEVEL_2, 0x12_3460_0000 | FREE | LARGE);
    assert_eq!(physical(&machine, walk, ADDRESS), Ok(0x12_3460_4567));
    machine.set(LEVEL_2, 0x12_3460_0000 | FREE | LARGE | 1 << 52);
    assert!(is_undecided(&physical(&machine, walk, ADDRESS)));

    for bit in [1, 2, 5, 6, 7, 8, 52, 62, 63] {
        machine.set(ROOT_ENTRY, 0x3000 | PRESENT | 1 << bit);
        assert!(
            is_undecided(&physical(&machine, walk, ADDRESS)),
            "bit {bit}"
        );
    }
}

/// The CPU may have read them when CR3 was loaded.
#[test]
fn the_root_of_pae_is_confirmed_by_the_cpu() {
    let mut machine = Machine::with(&[
        (ROOT, 0x3000 | PRESENT),
        (0x3000, 0x4000 | FREE),
        (0x4000, 0x7000 | FREE),
    ]);
    machine.confirms = Some(true);
    assert_eq!(machine.update(PAE, 0x10, &[1, 2]), Ok(vec![0, 0]));
    machine.confirms = Some(false);
    let refused = machine.update(PAE, 0x10, &[3, 4]);
    assert!(is_undecided(&refused), "{refused:?}");
    assert_eq!(machine.get(0x7010), 0x201);
}

#[test]
fn two_levels_of_entries_with_four_bytes() {
    // Entries 2 and 3 of the root, 4 and 5 of the table.
    let machine = Machine::with(&[
        (ROOT + 8, (0x3000 | FREE) << 32 | 0x2000 | FREE),
        (0x3010, (0x8765_5000 | FREE) << 32 | 0x8765_4000 | FREE),
    ]);
    let address = 3 << 22 | 4 << 12 | 0x567;
    assert_eq!(physical(&machine, TWO_LEVELS, address), Ok(0x8765_4567));
    assert_eq!(
        physical(&machine, TWO_LEVELS, address + 0x1000),
        Ok(0x8765_5567)
    );
    let address = 2 << 22;
    assert_eq!(
        physical(&machine, TWO_LEVELS, address),
        Err(AccessError::NotMapped { address })
    );
}

#[test]
fn pages_of_4_mib_if_they_are_switched_on() {
    let address = 2 << 22 | 0x12_3456;
    let machine = Machine::with(&[(ROOT + 8, 0x8040_0000 | FREE | LARGE)]);
    assert_eq!(physical(&machine, TWO_LEVELS, address), Ok(0x8052_3456));

    // Bits 13 to 16 are bits 32 to 35 of the address.
    machine.set(ROOT + 8, 0x8040_0000 | FREE | LARGE | 0xa << 13);
    assert_eq!(physical(&machine, TWO_LEVELS, address), Ok(0xa_8052_3456));
    for bit in 17..=21 {
        machine.set(ROOT + 8, 0x8040_0000 | FREE | LARGE | 1 << bit);
        assert!(is_undecided(&physical(&machine, TWO_LEVELS, address)));
    }

    let without = PageWalk {
        cr4: 0,
        ..TWO_LEVELS
    };
    machine.set(ROOT + 8, 0x2000 | FREE | LARGE);
    machine.set(0x2000 + 4 * 0x122, (0x9000 | FREE) << 32);
    assert_eq!(physical(&machine, without, address), Ok(0x9456));
}

#[test]
fn tables_that_are_not_in_ram_are_not_walked() {
    let machine = long_mode();
    machine.set(LEVEL_3, machine::RAM_END | FREE);
    let address = LONG_ADDRESS;
    assert_eq!(
        physical(&machine, LONG, address),
        Err(AccessError::NotRam { address })
    );
}
