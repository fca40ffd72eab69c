//! Doing a locked instruction in the CPU's place, with the same outcome and without a bus lock.
//!
//! [`emulate`] does the instruction that a vCPU is about to execute, or leaves it to the CPU and
//! says why. Nothing is guessed, and nothing is done by half: all that can go wrong is looked at
//! before anything changes. [`perform`] is the pure part of it.
//!
//! # What is left to the CPU
//!
//! * What faults, or would: pages that are not mapped or must not be written, addresses that are not
//!   canonical or outside of their segment, CMPXCHG16B that is not aligned, alignment that the guest
//!   wants checked, LOCK where it is undefined. The guest gets the CPU's own exception.
//! * What has effects that are not known: devices, holes, and whatever the memory is undecided about.
//! * What a trap is due after: single steps and the guest's own breakpoints.
//! * Locks on something else than an operand: [`ImplicitLock`](crate::decode::ImplicitLock).
//! * An operand that wraps around the end of the address space, about which CPUs differ.
//!
//! # Limits
//!
//! * **Only vCPUs are paused.** For a device or a thread of the VMM that accesses the same bytes, the
//!   instruction is a read and then a write.
//! * **Code and page tables are taken as they are in memory now.** A CPU might still have older ones;
//!   a guest that has changed them and has not told its CPUs so gets either, as it does from them.
//! * **Linear addresses with tags** (LAM of Intel, UAI of AMD) count as not canonical, and are left to
//!   the CPU. Segment limits in 64-bit mode (LMSLE, on some AMD CPUs) are not known.
//! * **XACQUIRE and XRELEASE** are hints, and are ignored.
//! * **What counts or records** what the CPU does does not see it: performance counters, traps after
//!   bus locks that the guest has asked for, last branches.

mod arithmetic;
mod perform;

pub use self::perform::{perform, undefined_flags};
use crate::cpu::{Context, Cpu, Registers, rflags};
use crate::decode::{Decoded, LockedAccess, RecentInstructions, fetch_and_decode};
use crate::memory::{AccessError, Memory, WritePermit};
use crate::pause::Pause;

/// What has become of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emulated {
    /// It is done; the vCPU is at the next one.
    Done(LockedAccess),
    /// Nothing has changed: let the vCPU run.
    LeftToCpu(Reason),
}

/// Why an instruction is left to the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// It is not a locked access to data, or it is not known to be one. Never [`Decoded::Locked`].
    #[error("{0}")]
    NoLockedAccess(Decoded),
    /// The guest single-steps: a debug exception is due after it.
    #[error("the guest single-steps")]
    SingleStep,
    /// The guest has breakpoints, one of which might be on the operand.
    #[error("the guest has breakpoints of its own")]
    Breakpoints,
    /// The guest has asked for an alignment check, which this access does not pass.
    #[error("the operand is not aligned, and the guest wants #AC for that")]
    AlignmentCheck,
    /// The operand begins at the end of the address space and ends at its start.
    #[error("the operand wraps around the end of the address space")]
    WrapsAround,
    /// The memory does not allow it.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// Does the instruction that `cpu` is about to execute, if it is a locked access to RAM.
///
/// From before the operand is read until after it has been written the other vCPUs are paused, so
/// that for them the instruction happens at once.
///
/// # Errors
/// If `cpu` cannot be asked or set. Nothing has changed then.
pub fn emulate<C: Cpu>(
    cpu: &mut C,
    memory: &mut impl Memory,
    pause: &impl Pause,
) -> Result<Emulated, C::Error> {
    let decoded = cpu.look(|registers, context| {
        let decoded = fetch_and_decode(registers, context, memory);
        let objection = match &decoded {
            Decoded::Locked(access) => objection(access, registers, context),
            _ => None,
        };
        (decoded, objection)
    })?;
    match decoded {
        (_, Some(reason)) => Ok(Emulated::LeftToCpu(reason)),
        (Decoded::Locked(access), None) => emulate_access(&access, cpu, memory, pause),
        (other, None) => Ok(Emulated::LeftToCpu(Reason::NoLockedAccess(other))),
    }
}

/// The same, but only if the access crosses a cache line; otherwise `None`. Instructions are decoded once for as long as
/// they are `recent`.
///
/// # Errors
/// As [`emulate`].
pub fn emulate_split<C: Cpu>(
    cpu: &mut C,
    memory: &mut impl Memory,
    pause: &impl Pause,
    recent: &mut RecentInstructions,
) -> Result<Option<Emulated>, C::Error> {
    let mut objects = None;
    let access = cpu.look(|registers, context| {
        let access = recent.next_access(registers, context, memory);
        let access = access.filter(LockedAccess::crosses_line)?;
        objects = objection(&access, registers, context);
        Some(access)
    })?;
    match (access, objects) {
        (None, _) => Ok(None),
        (Some(_), Some(reason)) => Ok(Some(Emulated::LeftToCpu(reason))),
        (Some(access), None) => emulate_access(&access, cpu, memory, pause).map(Some),
    }
}

fn emulate_access<C: Cpu>(
    access: &LockedAccess,
    cpu: &mut C,
    memory: &mut impl Memory,
    pause: &impl Pause,
) -> Result<Emulated, C::Error> {
    let paused = pause.pause_others();
    let mut operand = [0; 16];
    let bytes = ..access.size();
    let permit = match memory.load_for_update(access.address(), &mut operand[bytes]) {
        Ok(permit) => permit,
        Err(error) => return Ok(Emulated::LeftToCpu(Reason::Access(error))),
    };
    let (after, result) =
        cpu.look(|before, _| perform(access, before, u128::from_le_bytes(operand)))?;
    // In this order: this one can fail, and must not leave a write behind that is then done again.
    cpu.retire(&after)?;
    permit.store(&result.to_le_bytes()[bytes]);
    drop(paused);
    Ok(Emulated::Done(*access))
}

/// What forbids to do an access, apart from the memory.
fn objection(access: &LockedAccess, registers: &Registers, context: &Context) -> Option<Reason> {
    let flag = |flag| registers.rflags & flag != 0;
    if flag(rflags::TRAP) {
        return Some(Reason::SingleStep);
    }
    if context.breakpoints {
        return Some(Reason::Breakpoints);
    }
    let checks_alignment =
        context.alignment_mask && context.cpl == 3 && flag(rflags::ALIGNMENT_CHECK);
    if checks_alignment && !access.is_aligned() {
        return Some(Reason::AlignmentCheck);
    }
    access.wraps_around().then_some(Reason::WrapsAround)
}
