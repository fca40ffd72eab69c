//! Can an instruction split a lock, if not all registers are known?
//!
//! A kernel's log, an address or a few bytes seldom come with all registers. [`analyze`] decodes an
//! instruction with those that are known, in whole or in part; what was not given is unknown, and not
//! zero. Often that is enough to tell whether the operand crosses a cache line: only the lowest bits of
//! its address count. Where it is not, the answer says what it depends on.
//!
//! ```
//! use split_lock_assist::cpu::Mode;
//! use split_lock_assist::partial::{Crossing, KnownRegisters, Split, analyze};
//!
//! // lock bts qword ptr [rsi],rdi
//! let bytes = [0xf0, 0x48, 0x0f, 0xab, 0x3e];
//! let known = KnownRegisters::default();
//! let unknown = analyze(&bytes, &known, Mode::Bits64)?;
//! assert_eq!(unknown.split, Split::Depends);
//! let location = unknown.location.expect("it locks its operand");
//! assert_eq!(location.operand.sum(&known), "rsi + 8*floor(rdi/64)");
//! assert_eq!(location.line, Crossing::IfRemainder(vec![57..=63]));
//!
//! // The lower half of RSI decides, if RDI chooses a bit of the first eight bytes.
//! let settings = ["esi=0x303c".parse()?, "rdi=63".parse()?];
//! let known = KnownRegisters::new(&settings, None, Mode::Bits64)?;
//! assert_eq!(analyze(&bytes, &known, Mode::Bits64)?.split, Split::Yes);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod analysis;
mod crossing;
mod operand;
mod registers;

pub use analysis::{Analysis, LockKind, NotAnInstruction, OperandLocation, Split, analyze};
pub use crossing::Crossing;
pub use operand::Operand;
pub use registers::{KnownRegisters, PartialValue, RegisterSetting, SettingError};
