//! Files made by hand, files made by a compiler, and damaged ones.

use object::ReadRef;
use proptest::prelude::*;
use split_lock_assist::cpu::Mode;
use split_lock_assist::decode::MAX_INSTRUCTION_BYTES;

use super::fixture::{BASE, CALLED_FROM, Elf, SOURCE, SPLIT, TEXT};
use super::image::MAGIC;
use super::*;
use crate::error::Error;
use crate::listing::{CodeBytes, Listing};

const AT_SPLIT: u64 = BASE + SPLIT;

fn image(bytes: &[u8]) -> Image<'_, &[u8]> {
    Image::parse(bytes).unwrap()
}

fn with(change: impl FnOnce(&mut Elf)) -> Elf {
    let mut elf = Elf::default();
    change(&mut elf);
    elf
}

fn pie() -> Elf {
    with(|elf| (elf.is_position_independent, elf.base) = (true, 0))
}

fn stripped() -> Elf {
    with(|elf| (elf.symbols, elf.has_lines) = (vec![], false))
}

#[test]
fn code_is_found_by_its_address() {
    for is_64 in [true, false] {
        let bytes = with(|elf| elf.is_64 = is_64).bytes();
        let image = image(&bytes);
        let mode = if is_64 { Mode::Bits64 } else { Mode::Bits32 };
        assert_eq!(image.mode(), mode);
        assert!(!image.is_position_independent());
        assert_eq!(image.code(AT_SPLIT..AT_SPLIT + 1), Some(&[0xf0][..]));
        assert_eq!(image.code(0x3f_ffff..0x40_0000), None);
        let end = BASE + bytes.len() as u64;
        assert_eq!(image.code(end - 1..end + 100).unwrap().len(), 1);
        assert_eq!(image.code(end..end + 1), None);
        assert_eq!(image.address_of_offset(SPLIT), Some(AT_SPLIT));
        assert_eq!(image.address_of_offset(bytes.len() as u64), None);
    }
}

#[test]
fn a_function_has_a_name_a_beginning_and_a_line() {
    for is_64 in [true, false] {
        let bytes = with(|elf| elf.is_64 = is_64).bytes();
        let image = image(&bytes);
        let function = image.function_at(AT_SPLIT + 2).unwrap();
        assert_eq!(function.start, AT_SPLIT);
        assert_eq!(function.name.unwrap().demangled, "split");
        let wait = image.function_at(AT_SPLIT - 1).unwrap();
        assert_eq!(wait.name.unwrap().demangled, "wait");
        let line = |line| SourceLine {
            file: SOURCE.0.to_owned(),
            line,
        };
        let lines = image.source_lines(AT_SPLIT);
        assert_eq!(lines, [line(SOURCE.1), line(CALLED_FROM)]);
        assert_eq!(image.source_lines(AT_SPLIT - 1), [line(10)]);
        assert_eq!(image.source_lines(0), []);
    }
}

#[test]
fn a_stripped_file_still_says_where_functions_begin() {
    let bytes = stripped().bytes();
    let image = image(&bytes);
    let function = image.function_at(AT_SPLIT + 2).unwrap();
    assert_eq!((function.start, function.name), (AT_SPLIT, None));
    assert_eq!(image.source_lines(AT_SPLIT), []);
    assert_eq!(image.function_at(AT_SPLIT + 100), None);
}

#[test]
fn without_sizes_the_last_symbol_before_it_is_taken() {
    let symbols: Vec<(&[u8], _, _)> =
        vec![(b"wait", TEXT, 0), (b"split", SPLIT, 0), (b"", SPLIT, 0)];
    let bytes = with(|elf| (elf.symbols, elf.unwinds) = (symbols, false)).bytes();
    let image = image(&bytes);
    let name = |address| Some(image.function_at(address)?.name?.demangled);
    assert_eq!(name(AT_SPLIT + 2).as_deref(), Some("split"));
    assert_eq!(name(BASE + TEXT).as_deref(), Some("wait"));
    assert_eq!(name(0x40_0000), None);
}

#[test]
fn a_name_of_any_content_is_taken() {
    let name: &[u8] = b"\xff\x1b[31m";
    let bytes = with(|elf| elf.symbols = vec![(name, SPLIT, 6)]).bytes();
    let image = image(&bytes);
    let name = image.function_at(AT_SPLIT).unwrap().name.unwrap();
    assert_eq!(name.demangled, "\u{fffd}\u{1b}[31m");
}

#[test]
fn an_address_of_the_file_is_where_it_is() {
    let bytes = Elf::default().bytes();
    let image = image(&bytes);
    let place = image.locate(AT_SPLIT, None).unwrap();
    assert_eq!((place.address, place.assumption), (AT_SPLIT, None));
    let message = image.locate(0x1000, None).unwrap_err().to_string();
    assert!(message.contains("it has code from 0x400000"), "{message}");
}

#[test]
fn an_address_after_loading_is_found_and_what_was_assumed_is_said() {
    let bytes = pie().bytes();
    let image = image(&bytes);
    let locate = |address, base| image.locate(address, base);
    let usual = locate(0x5555_5555_4000 + SPLIT, None).unwrap();
    assert_eq!(usual.address, SPLIT);
    assert!(usual.assumption.unwrap().contains("0x555555554000"));
    let anywhere = locate(0x55d0_c0ff_e000 + SPLIT, None).unwrap();
    assert_eq!(anywhere.address, SPLIT);
    assert!(anywhere.assumption.unwrap().contains("the only one"));
    // With its base nothing is assumed, and it need not lock.
    let told = locate(0x55d0_c0ff_e000 + TEXT, Some(0x55d0_c0ff_e000)).unwrap();
    assert_eq!((told.address, told.assumption), (TEXT, None));

    for (address, base, part) in [
        (
            0x55d0_c0ff_e000 + TEXT,
            None,
            "no instruction that locks 0x100 bytes",
        ),
        (0x55d0_c0ff_e000, Some(0x1000), "no code at 0x55d0c0ffe000"),
        (0x2000, Some(0x1234), "not the address of a page"),
        (0x1000, Some(0x2000), "no code at 0x1000"),
    ] {
        let message = locate(address, base).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn the_middle_of_an_instruction_is_no_place_for_one() {
    let mut bytes = pie().bytes();
    // mov eax,0fff0h, which has the bytes of `lock inc dword ptr [rax]` in it.
    let mov = [0xb8, 0xf0, 0xff, 0x00, 0x00];
    bytes[TEXT as usize..][..mov.len()].copy_from_slice(&mov);
    let image = image(&bytes);
    let place = image.locate(0x55d0_c0ff_e000 + TEXT + 1, None);
    assert!(place.is_err(), "{place:?}");
}

#[test]
fn what_can_be_at_several_places_is_not_chosen_from() {
    let elf = with(|elf| (elf.unwinds, elf.is_position_independent, elf.base) = (false, true, 0));
    let mut bytes = elf.bytes();
    // The same page three times over, and the table of sections is not where it was.
    bytes.resize(0x1000, 0);
    let page = bytes.clone();
    bytes.extend(&page);
    bytes.extend(&page);
    let all = (bytes.len() as u64).to_le_bytes();
    bytes[64 + 32..][..8].copy_from_slice(&all);
    bytes[64 + 40..][..8].copy_from_slice(&all);
    let image = image(&bytes);
    let error = image.locate(0x55d0_c0ff_e000 + SPLIT, None).unwrap_err();
    assert!(matches!(error, Error::SeveralPlaces(_)), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("0x109, 0x1109, 0x2109"), "{message}");
}

#[test]
fn what_is_no_program_is_named() {
    let changed = |offset: usize, byte| {
        let mut bytes = Elf::default().bytes();
        bytes[offset] = byte;
        bytes
    };
    let cut = &Elf::default().bytes()[..200];
    for (bytes, part) in [
        (&b"#!/bin/sh\n"[..], "no ELF file"),
        (b"", "no ELF file"),
        (b"\x7fELF", "damaged"),
        (cut, "damaged"),
        (&changed(16, 1), "not been linked"),
        (&changed(16, 4), "neither a program nor a library"),
        (&changed(18, 183), "another kind of processor"),
    ] {
        let message = format!("{:#}", Image::parse(bytes).unwrap_err());
        assert!(message.contains(part), "{message}");
    }
}

/// Made by a compiler, and read from disk as far as it is needed.
#[test]
fn this_program_knows_itself() {
    let source = UntrustedFile::open(&std::env::current_exe().unwrap()).unwrap();
    let image = Image::parse(source.data()).unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let base = u64::from_str_radix(maps.split('-').next().unwrap(), 16).unwrap();
    let address = this_program_knows_itself as *const () as u64;
    let place = image.locate(address, Some(base)).unwrap();
    let function = image.function_at(place.address).unwrap();
    assert_eq!(function.start, place.address);
    let name = function.name.unwrap().demangled;
    assert!(name.contains("this_program_knows_itself"), "{name}");
    let lines = image.source_lines(place.address);
    assert!(lines[0].file.ends_with("elf/tests.rs"), "{lines:?}");
}

/// All that is ever asked of a file.
fn ask_everything<'a>(data: impl ReadRef<'a>, address: u64) {
    let Ok(image) = Image::parse(data) else {
        return;
    };
    let _ = image.address_of_offset(address);
    let _ = image.code(address..address.wrapping_add(MAX_INSTRUCTION_BYTES as u64));
    let function = image.function_at(address);
    let _ = image.source_lines(address);
    if let Some((start, bytes)) = image.code_around(function.as_ref(), address) {
        let code = CodeBytes {
            bytes,
            address: start,
            mode: image.mode(),
        };
        assert!(code.from(address).bytes.len() <= bytes.len() && !bytes.is_empty());
        let _ = Listing::around(address, code);
    }
    for base in [None, Some(0), Some(address & !0xfff)] {
        let _ = image.locate(address, base);
    }
}

fn addresses() -> impl Strategy<Value = u64> {
    let bases = proptest::sample::select(&[0, BASE, 0x5555_5555_4000][..]);
    let near = (bases, 0u64..0x1000).prop_map(|(base, offset)| base + offset);
    prop_oneof![1 => any::<u64>(), 3 => near]
}

/// A file with some bytes changed, to anything or to what is most likely to matter.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let in_32_bits = Elf {
        is_64: false,
        ..pie()
    };
    let elf = proptest::sample::select(vec![Elf::default(), pie(), stripped(), in_32_bits]);
    let likely = proptest::sample::select(&[0, 1, 0x7f, 0x80, 0xff][..]);
    let byte = prop_oneof![1 => any::<u8>(), 5 => likely];
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), byte), 1..12);
    let length = proptest::option::weighted(0.2, any::<prop::sample::Index>());
    (elf, changes, length).prop_map(|(elf, changes, length)| {
        let mut bytes = elf.bytes();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(length) = length {
            bytes.truncate(length.index(bytes.len()));
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_damaged_file_is_no_panic(bytes in damaged(), address in addresses()) {
        ask_everything(&bytes[..], address);
    }

    #[test]
    fn random_bytes_are_no_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        address in addresses(),
    ) {
        let bytes = [MAGIC, &[2, 1, 1], &bytes].concat();
        ask_everything(&bytes[..], address);
    }
}

/// What a damaged file claims to have is not looked for, and not allocated.
#[test]
fn a_small_file_with_large_claims_is_cut() {
    let mut bytes = pie().bytes();
    let huge = (1u64 << 46).to_le_bytes();
    bytes[64 + 32..][..8].copy_from_slice(&huge);
    bytes[64 + 40..][..8].copy_from_slice(&huge);
    let image = image(&bytes);
    let found = image.code(SPLIT..u64::MAX).unwrap();
    assert_eq!(found.len() as u64, bytes.len() as u64 - SPLIT);
    let place = image.locate(0x55d0_c0ff_e000 + SPLIT, None).unwrap();
    assert_eq!(place.address, SPLIT);
}
