//! What emulating an instruction does, in which order, and what it leaves to the CPU.

#[path = "../common/mod.rs"]
mod common;
mod outcomes;

use std::collections::BTreeSet;

use split_lock_assist::cpu::Mode;
use split_lock_assist::decode::MAX_INSTRUCTION_BYTES;

use crate::common::anything::check;
use crate::common::encoding::{Encoding, lockable};
use crate::common::random::Random;

/// What the fuzz target does, with inputs that are the same every time. Half of them begin with a
/// locked instruction.
#[test]
fn whatever_the_guest_is_it_is_done_right_or_left() {
    const INPUTS: u64 = 200_000;
    let mut random = Random::new(5);
    let mut seen = BTreeSet::new();
    for n in 0..INPUTS {
        let mut input: Vec<u8> = (0..320).map(|_| random.next() as u8).collect();
        if n % 2 == 0 {
            let mode = *random.pick(&[Mode::Bits16, Mode::Bits32, Mode::Bits64]);
            let opcode = *random.pick(&lockable(mode));
            let code = Encoding::random(&mut random, mode, opcode, true).bytes();
            let count = code.len().min(MAX_INSTRUCTION_BYTES);
            input[..count].copy_from_slice(&code[..count]);
        }
        // Up to the first field of what it is about.
        let outcome = format!("{:?}", check(&input));
        seen.insert(outcome.split([' ', '{']).next().map(str::to_owned));
    }
    // Done, stuck, and each of the reasons: four of memory, four others, and six things that are no
    // locked access.
    assert_eq!(seen.len(), 16, "{seen:#?}");
}
