//! Addresses that the CPU refuses.

use crate::cpu::SegmentRegister;

/// Why a locked instruction faults because of its operand's address alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A linear address of 64-bit mode whose upper bits are not all equal; or an offset like that,
    /// though the base of FS or GS would make a canonical address of it. AMD's CPUs refuse that too,
    /// and to those that do not it is left all the same.
    #[error("the operand at {address:#x} is not at a canonical address")]
    NonCanonical {
        /// Linear address of its first byte.
        address: u64,
        /// The segment that it was addressed in.
        segment: SegmentRegister,
    },
    /// Not all of the operand lies in its segment.
    #[error("the operand at offset {offset:#x} does not lie in segment {segment}")]
    BeyondLimit {
        /// Offset of its first byte.
        offset: u32,
        /// The segment.
        segment: SegmentRegister,
    },
    /// The segment register holds a null selector, or nothing that can be used.
    #[error("segment {segment} cannot be used")]
    Unusable {
        /// The segment.
        segment: SegmentRegister,
    },
    /// Code, or data that can only be read.
    #[error("segment {segment} cannot be written")]
    ReadOnly {
        /// The segment.
        segment: SegmentRegister,
    },
    /// CMPXCHG16B with an operand that is not aligned to 16 bytes. So it never splits.
    #[error("the operand of CMPXCHG16B at {address:#x} is not aligned")]
    Misaligned {
        /// Linear address of its first byte.
        address: u64,
    },
}

/// What the CPU raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exception {
    /// #SS, vector 12.
    StackFault,
    /// #GP, vector 13.
    GeneralProtection,
}

impl Fault {
    /// What the CPU raises for it, with error code 0.
    #[must_use]
    pub fn exception(&self) -> Exception {
        match self {
            Self::NonCanonical {
                segment: SegmentRegister::Ss,
                ..
            }
            | Self::BeyondLimit {
                segment: SegmentRegister::Ss,
                ..
            } => Exception::StackFault,
            _ => Exception::GeneralProtection,
        }
    }
}
