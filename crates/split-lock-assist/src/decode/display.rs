//! What was decoded, as a sentence.

use std::fmt;

use super::Decoded;

impl fmt::Display for Decoded {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked(access) => {
                let (size, address) = (access.size(), access.address());
                write!(out, "`{access}` locks {size} bytes at {address:#x}")
            }
            Self::NotLocked(instruction) => write!(out, "`{instruction}` does not lock"),
            Self::ImplicitLock { instruction, lock } => write!(out, "`{instruction}` {lock}"),
            Self::Faults { instruction, fault } => write!(out, "`{instruction}` faults: {fault}"),
            Self::CannotBeLocked(instruction) => {
                write!(out, "`{instruction}` may not have a LOCK prefix")
            }
            Self::Invalid => write!(out, "there is no instruction that the CPU knows"),
            Self::Incomplete { available } => write!(
                out,
                "the instruction does not end within the {available} bytes that can be fetched"
            ),
        }
    }
}
