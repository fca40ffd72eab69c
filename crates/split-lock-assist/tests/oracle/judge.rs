//! Whether the CPU and the emulation agree.

use std::fmt::Write as _;

use split_lock_assist::cpu::{Mode, Registers};
use split_lock_assist::decode::{Decoded, Exception, Fault};
use split_lock_assist::emulate::{Emulated, Reason, undefined_flags};
use split_lock_assist::memory::AccessError;

use crate::case::{Case, is_canonical};
use crate::layout::PAGE;
use crate::sys::{NO_TRAP, Outcome, WINDOW_BYTES};

/// What `emulate` has made of a case.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) emulated: Emulated,
    pub(crate) registers: Registers,
    pub(crate) window: [u8; WINDOW_BYTES],
}

/// How the two compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Same {
        /// The CPU has trapped, and the instruction was left to it.
        trapped: bool,
        /// Flags that the manuals leave open, and the two do differently.
        undefined: bool,
    },
    Different(&'static str),
}

pub(crate) fn judge(case: &Case, expected: &Expected, actual: &Outcome) -> Comparison {
    let undefined = match expected.emulated {
        Emulated::Done(access) => {
            if actual.trap != NO_TRAP {
                return Comparison::Different("the CPU has trapped");
            }
            if expected.registers.rip != next_rip(case) {
                return Comparison::Different("the next instruction");
            }
            undefined_flags(&access)
        }
        Emulated::LeftToCpu(reason) => {
            if let Some(different) = compare_trap(case, reason, actual) {
                return Comparison::Different(different);
            }
            0
        }
    };
    let flags = expected.registers.rflags ^ actual.rflags;
    if flags & !undefined != 0 {
        return Comparison::Different("flags");
    }
    if !same_registers(case, &expected.registers.gpr, &actual.gpr) {
        return Comparison::Different("registers");
    }
    if expected.window != actual.window {
        return Comparison::Different("memory");
    }
    Comparison::Same {
        trapped: actual.trap != NO_TRAP,
        undefined: flags != 0,
    }
}

/// Where the way back begins, which the CPU has found.
fn next_rip(case: &Case) -> u64 {
    let next = case.registers.rip + case.bytes.len() as u64;
    match case.context.mode {
        Mode::Bits64 => next,
        Mode::Bits16 | Mode::Bits32 => next & 0xffff_ffff,
    }
}

fn compare_trap(case: &Case, reason: Reason, actual: &Outcome) -> Option<&'static str> {
    if !vectors(reason).contains(&actual.trap) {
        return Some("the trap");
    }
    if actual.trap_rip != case.registers.rip {
        return Some("where it has trapped");
    }
    match reason {
        Reason::Access(
            AccessError::NotMapped { address } | AccessError::NotWritable { address },
        ) if address / PAGE != actual.trap_address / PAGE => Some("the address of the page fault"),
        _ => None,
    }
}

/// What the CPU may raise for it.
fn vectors(reason: Reason) -> &'static [u64] {
    match reason {
        Reason::NoLockedAccess(Decoded::Invalid | Decoded::CannotBeLocked(_)) => &[6],
        Reason::NoLockedAccess(Decoded::Faults { fault, .. }) => match (fault, fault.exception()) {
            // Only the offset is not canonical, and nothing is mapped there: AMD's CPUs do not even
            // look.
            (Fault::NonCanonical { address, .. }, _) if is_canonical(address) => &[12, 13, 14],
            (_, Exception::StackFault) => &[12],
            (_, Exception::GeneralProtection) => &[13],
        },
        // Nothing is mapped at either end of the address space; the offset can be refused as well.
        Reason::WrapsAround => &[13, 14],
        Reason::Access(_) => &[14],
        // AMD's CPUs check the alignment first; a page fault is not excluded.
        Reason::AlignmentCheck => &[17, 14],
        _ => &[],
    }
}

/// Outside of 64-bit mode nothing is said about what cannot be seen there.
fn same_registers(case: &Case, expected: &[u64; 16], actual: &[u64; 16]) -> bool {
    if case.context.mode == Mode::Bits64 {
        return expected == actual;
    }
    let low = |gpr: &[u64; 16]| gpr.map(|value| value as u32);
    low(expected)[..8] == low(actual)[..8] && expected[8..] == actual[8..]
}

/// Everything that helps to see what went wrong.
pub(crate) fn report(case: &Case, expected: &Expected, actual: &Outcome, why: &str) -> String {
    let mut text = format!(
        "different: {why}\nbytes {:02x?} in {:?} at {:#x}\nemulated: {:?}\n",
        case.bytes, case.context.mode, case.registers.rip, expected.emulated
    );
    match expected.emulated {
        Emulated::Done(access) => _ = writeln!(text, "{}", Decoded::Locked(access)),
        Emulated::LeftToCpu(reason) => _ = writeln!(text, "left to the CPU: {reason}"),
    }
    _ = writeln!(text, "segments {:x?}", case.context.segments);
    _ = writeln!(text, "{:x?}", case.task);
    let trap = actual.trap.cast_signed();
    _ = writeln!(
        text,
        "the CPU's trap: {trap} at {:#x}, address {:#x}",
        actual.trap_rip, actual.trap_address
    );
    for n in 0..16 {
        let (before, after) = (case.registers.gpr[n], expected.registers.gpr[n]);
        let cpu = actual.gpr[n];
        _ = writeln!(text, "r{n}: {before:#x}, emulated {after:#x}, CPU {cpu:#x}");
    }
    let (before, after) = (case.registers.rflags, expected.registers.rflags);
    let cpu = actual.rflags;
    _ = writeln!(
        text,
        "flags: {before:#x}, emulated {after:#x}, CPU {cpu:#x}"
    );
    _ = writeln!(text, "emulated {:02x?}", expected.window);
    _ = writeln!(text, "CPU      {:02x?}", actual.window);
    text
}
