//! The CPU is the oracle: random locked instructions are executed natively, in a child, and
//! emulated; registers, flags, memory and traps have to be the same. 16-bit and 32-bit code runs in
//! segments of a local descriptor table, with bases and limits of all kinds.
//!
//! `SPLITLOCK_ORACLE_CASES` and `SPLITLOCK_ORACLE_SEED` ask for other cases than the usual ones.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod case;
#[path = "../common/mod.rs"]
mod common;
mod host;
mod judge;
mod layout;
mod model;
mod oracle;
mod segments;
mod sys;

use std::env;

use split_lock_assist::cpu::Mode;

use crate::oracle::Oracle;
use crate::sys::Unfinished;

/// Compares until so many cases have been executed by both.
fn compare(start: u64, mode: Mode, usual: u64) {
    let cases = number("SPLITLOCK_ORACLE_CASES").unwrap_or(usual);
    let Some(mut oracle) = oracle(start, mode) else {
        return;
    };
    while oracle.tally.done < cases {
        if let Err(error) = oracle.batch() {
            return skip(mode, &error);
        }
    }
    println!("{mode:?}: {}", oracle.tally);
}

/// Compares instructions after which the next offset in a code segment is a special one.
fn compare_before(start: u64, mode: Mode, segment: impl Fn(&Oracle) -> u64, next_offset: u64) {
    let Some(mut oracle) = oracle(start, mode) else {
        return;
    };
    let base = segment(&oracle);
    while oracle.tally.done < 200 {
        let case = oracle.source.before(base + next_offset, base);
        if let Err(error) = oracle.compare(&[case]) {
            return skip(mode, &error);
        }
    }
}

fn oracle(start: u64, mode: Mode) -> Option<Oracle> {
    if !sys::has_fsgsbase() {
        println!("skipped: the kernel does not let programs write the bases of FS and GS");
        return None;
    }
    let seed = number("SPLITLOCK_ORACLE_SEED").unwrap_or(1);
    Some(Oracle::new(start, mode, seed, host::split_locks_allowed()))
}

/// Every kernel runs 64-bit programs. Other code needs descriptors, which some kernels do not give.
fn skip(mode: Mode, error: &Unfinished) {
    match (mode, error) {
        (Mode::Bits16 | Mode::Bits32, Unfinished::Setup(cause)) => {
            println!("skipped: {error}: {cause}");
        }
        _ => panic!("{error}: {error:?}"),
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

// Each arena is far from every power of two, and so from what a case of another one may hit by its registers: they are
// there at the same time.

#[test]
fn in_64_bit_mode() {
    compare(0x1357_0000, Mode::Bits64, 1_000_000);
}

#[test]
fn in_32_bit_segments() {
    compare(0x2357_0000, Mode::Bits32, 200_000);
}

#[test]
fn in_16_bit_segments() {
    compare(0x3357_0000, Mode::Bits16, 200_000);
}

#[test]
fn after_offset_0xffff_comes_0x10000_in_a_16_bit_segment() {
    let segment = |oracle: &Oracle| oracle.layout.code_segment();
    compare_before(0x4357_0000, Mode::Bits16, segment, 0x1_0000);
}

#[test]
fn after_the_last_offset_comes_0_in_a_32_bit_segment() {
    let segment = |oracle: &Oracle| oracle.layout.code_segment_around();
    compare_before(0x5357_0000, Mode::Bits32, segment, 0);
}
