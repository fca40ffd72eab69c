//! Code at an address: what instruction is there, and where it comes from.
//!
//! A kernel's log says at which address a program has split a lock, and people want to know which
//! instruction that was, in which function, and on which line. This crate looks it up in an ELF file
//! ([`LocatedCode::from_file`]) or in a running process ([`LocatedCode::from_process`],
//! [`ProcessInstruction`]), and takes bytes as people paste them ([`PastedBytes`]). Around an
//! instruction it lists its neighbours ([`Listing`]), and beside it the symbol, the source lines and
//! whatever had to be assumed ([`Origin`]). Files and processes may be anybody's: nothing that they claim
//! is trusted, allocated or waited for, and what cannot be read is an [`Error`] that says why.
//! Whether an instruction can split a lock is said by [`split_lock_assist::partial`].
//!
//! ```
//! use split_lock_assist::cpu::Mode;
//! use split_lock_symbols::{LocatedCode, PastedBytes};
//!
//! // A kernel's log marks where the CPU was.
//! let pasted = PastedBytes::parse("Code: 55 48 89 e5 <f0> 0f c1 43 1e c3")?;
//! let code = LocatedCode::from_bytes(&pasted, Mode::Bits64, Some(0x401136));
//! let locked: Vec<_> = code.listing.lines.iter().filter(|line| line.locks).collect();
//! assert_eq!(locked[0].address, 0x401136);
//! assert_eq!(locked[0].text, "lock xadd dword ptr [rbx+1Eh],eax");
//! assert_eq!(code.listing.line_before().unwrap().text, "mov rbp,rsp");
//! # Ok::<(), split_lock_symbols::Error>(())
//! ```

mod bytes;
mod code;
mod data;
mod elf;
mod error;
mod instruction;
mod listing;
mod place;
mod process;

pub use bytes::PastedBytes;
pub use code::{LocatedCode, Origin};
pub use data::Variable;
pub use elf::{Function, FunctionName, SourceLine};
pub use error::{Cause, Error};
pub use instruction::ProcessInstruction;
pub use listing::{Listing, ListingLine};
pub use place::{CodePlace, FunctionOffset};
