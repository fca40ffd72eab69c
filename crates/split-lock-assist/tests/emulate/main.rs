//! What emulating an instruction does, in which order, and what it leaves to the CPU.

#[path = "../common/mod.rs"]
mod common;
mod outcomes;

use std::collections::BTreeSet;

use split_lock_assist::cpu::Mode;
use split_lock_assist::decode::{Decoded, MAX_INSTRUCTION_BYTES};
use split_lock_assist::emulate::{Emulated, Reason};
use split_lock_assist::memory::AccessError;

use crate::common::anything::check;
use crate::common::encoding::{Encoding, lockable};
use crate::common::random::Random;
use crate::common::world::Stuck;

fn kind(outcome: &Result<Emulated, Stuck>) -> &'static str {
    let reason = match outcome {
        Err(Stuck) => return "stuck",
        Ok(Emulated::Done(_)) => return "done",
        Ok(Emulated::LeftToCpu(reason)) => reason,
    };
    match reason {
        Reason::Access(AccessError::NotMapped { .. }) => "not mapped",
        Reason::Access(AccessError::NotWritable { .. }) => "not writable",
        Reason::Access(AccessError::NotRam { .. }) => "not RAM",
        Reason::Access(AccessError::Undecided { .. }) => "undecided",
        Reason::SingleStep => "single step",
        Reason::Breakpoints => "breakpoints",
        Reason::AlignmentCheck => "alignment check",
        Reason::WrapsAround => "wraps around",
        Reason::NoLockedAccess(Decoded::NotLocked(_)) => "not locked",
        Reason::NoLockedAccess(Decoded::ImplicitLock { .. }) => "implicit lock",
        Reason::NoLockedAccess(Decoded::Faults { .. }) => "faults",
        Reason::NoLockedAccess(Decoded::CannotBeLocked(_)) => "cannot be locked",
        Reason::NoLockedAccess(Decoded::Invalid) => "invalid",
        Reason::NoLockedAccess(Decoded::Incomplete { .. }) => "incomplete",
        _ => panic!("what nothing says: {reason:?}"),
    }
}

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
        seen.insert(kind(&check(&input).expect("the input is long enough")));
    }
    let all = [
        "stuck",
        "done",
        "not mapped",
        "not writable",
        "not RAM",
        "undecided",
        "single step",
        "breakpoints",
        "alignment check",
        "wraps around",
        "not locked",
        "implicit lock",
        "faults",
        "cannot be locked",
        "invalid",
        "incomplete",
    ];
    assert_eq!(seen, BTreeSet::from(all));
}
