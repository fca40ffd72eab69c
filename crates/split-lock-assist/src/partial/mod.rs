//! Locked instructions of which not all registers are known.

mod crossing;
mod operand;
mod registers;
mod verdict;

pub use crossing::{Crossing, listed};
pub use operand::{Operand, Residue};
pub use registers::{Known, Partial, Setting, SettingError};
pub use verdict::{Lock, NoInstruction, Place, Split, Verdict, judge};
