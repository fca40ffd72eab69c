//! Does this instruction lock, and where is its operand?
//!
//! [`decode`] answers for bytes, registers and context; [`decode_next`] for the instruction that a
//! vCPU is about to execute.
//!
//! ```
//! use split_lock_assist::cpu::{Context, Gpr, Registers};
//! use split_lock_assist::decode::{Decoded, decode};
//!
//! // lock bts dword ptr [rsi],edi
//! let bytes = [0xf0, 0x0f, 0xab, 0x3e];
//! let mut registers = Registers::default();
//! registers.set(Gpr::Rsi, 0x1000);
//! // Its bit offset reaches far beyond the four bytes at RSI.
//! registers.set(Gpr::Rdi, 8 * 0x3d);
//!
//! let Decoded::Locked(access) = decode(&bytes, &registers, &Context::long_mode(3)) else {
//!     panic!("this one locks");
//! };
//! assert_eq!((access.address(), access.size()), (0x103c, 4));
//! assert!(!access.crosses_line());
//!
//! registers.set(Gpr::Rsi, 0x1001);
//! let Decoded::Locked(access) = decode(&bytes, &registers, &Context::long_mode(3)) else {
//!     panic!("this one still locks");
//! };
//! assert_eq!(access.line_boundary(), Some(0x1040));
//! ```
//!
//! # Locks that no instruction shows
//!
//! The CPU also locks when it sets an accessed or dirty bit in a page table. Any instruction can
//! cause that. The entries are aligned, so these locks never split.

mod access;
mod address;
mod display;
mod fault;
mod fetch;
mod implicit;
mod instruction;
mod lockable;
mod operation;
mod part;
mod recent;

use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction as Iced};

use self::lockable::Lockable;

pub use self::access::{LINE_BYTES, LockedAccess, PAGE_BYTES};
pub use self::fault::{Exception, Fault};
pub use self::implicit::ImplicitLock;
pub use self::instruction::{Instruction, MAX_INSTRUCTION_BYTES};
pub(crate) use self::operation::{Operation, Source};
pub(crate) use self::part::RegisterPart;
pub use self::recent::RecentInstructions;
use crate::cpu::{Context, Cpu, Mode, Registers};
use crate::memory::Memory;

/// What an instruction is, as far as locks are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// It locks an access to data, and [`emulate`](crate::emulate) can do it.
    Locked(LockedAccess),
    /// It does not lock.
    NotLocked(Instruction),
    /// It can lock something that is not its operand, or in a way of its own. This is left to the
    /// CPU.
    ImplicitLock {
        /// The instruction.
        instruction: Instruction,
        /// What it locks.
        lock: ImplicitLock,
    },
    /// It would lock, but faults because of its operand's address, before anything is accessed.
    Faults {
        /// The instruction.
        instruction: Instruction,
        /// Why.
        fault: Fault,
    },
    /// LOCK in front of an instruction that cannot be locked, or whose destination is a register:
    /// undefined opcode.
    CannotBeLocked(Instruction),
    /// Not an instruction in this mode: undefined opcode, or general protection if it goes on for
    /// more than [`MAX_INSTRUCTION_BYTES`].
    Invalid,
    /// The instruction goes on after the bytes that there are.
    Incomplete {
        /// How many there are.
        available: usize,
    },
}

/// What the instruction in `bytes` is. Bytes after it are ignored.
///
/// This takes about 0.1 us, but for the first call in a process: see [`set_up`].
#[must_use]
pub fn decode(bytes: &[u8], registers: &Registers, context: &Context) -> Decoded {
    let bytes = &bytes[..bytes.len().min(MAX_INSTRUCTION_BYTES)];
    let (iced, error) = read(bytes, registers.rip, context.mode, DecoderOptions::NONE);
    match error {
        DecoderError::None => {}
        DecoderError::NoMoreBytes => {
            return Decoded::Incomplete {
                available: bytes.len(),
            };
        }
        _ => return why_invalid(bytes, registers.rip, context.mode),
    }
    let instruction = Instruction::new(&bytes[..iced.len()], registers.rip, context.mode);
    if let Some(lockable) = Lockable::of(&iced, instruction) {
        return match lockable.access(registers, context) {
            Ok(access) => Decoded::Locked(access),
            Err(fault) => Decoded::Faults { instruction, fault },
        };
    }
    match ImplicitLock::of(&iced, registers, context) {
        Some(lock) => Decoded::ImplicitLock { instruction, lock },
        None => Decoded::NotLocked(instruction),
    }
}

/// Builds the tables that [`decode`] and the text of an [`Instruction`] need. That takes about a millisecond, once
/// in a process, and would otherwise be part of the first call of each: in the middle of a bounded run, perhaps.
///
/// [`VcpuGuard::new`](crate::guard::VcpuGuard::new) does it.
pub fn set_up() {
    const LOCK_INC_DWORD_AT_RSI: [u8; 3] = [0xf0, 0xff, 0x06];
    let (registers, context) = (Registers::default(), Context::long_mode(3));
    let decoded = decode(&LOCK_INC_DWORD_AT_RSI, &registers, &context);
    std::hint::black_box(decoded.to_string());
}

/// What `cpu` is about to execute.
///
/// # Errors
/// If `cpu` cannot be asked.
pub fn decode_next<C: Cpu>(cpu: &C, memory: &mut impl Memory) -> Result<Decoded, C::Error> {
    let registers = cpu.registers()?;
    let context = cpu.context()?;
    Ok(fetch_and_decode(&registers, &context, memory))
}

pub(crate) fn fetch_and_decode(
    registers: &Registers,
    context: &Context,
    memory: &mut impl Memory,
) -> Decoded {
    let mut bytes = [0; MAX_INSTRUCTION_BYTES];
    let count = fetch::fetch(registers.rip, context, memory, &mut bytes);
    decode(&bytes[..count], registers, context)
}

fn read(bytes: &[u8], rip: u64, mode: Mode, options: u32) -> (Iced, DecoderError) {
    let mut decoder = Decoder::with_ip(mode.bits(), bytes, rip, options);
    let mut iced = Iced::default();
    decoder.decode_out(&mut iced);
    (iced, decoder.last_error())
}

/// If it is an instruction but for the checks, it is LOCK that must not be there.
fn why_invalid(bytes: &[u8], rip: u64, mode: Mode) -> Decoded {
    let (iced, error) = read(bytes, rip, mode, DecoderOptions::NO_INVALID_CHECK);
    if error == DecoderError::None && iced.has_lock_prefix() {
        Decoded::CannotBeLocked(Instruction::new(&bytes[..iced.len()], rip, mode))
    } else {
        Decoded::Invalid
    }
}
