//! Why a vCPU was kicked, as far as its kickers say.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// A set of up to 31 reasons to kick a vCPU. What they mean is up to the VMM.
///
/// Kicks that the vCPU's thread has not yet taken notice of are one kick, with the reasons of all.
///
/// ```
/// use kvm_preemption_timer::KickReasons;
///
/// const STOP: KickReasons = KickReasons::number(0);
/// const PAUSE: KickReasons = KickReasons::number(1);
/// assert!((STOP | PAUSE).contains(PAUSE));
/// assert!(!STOP.contains(PAUSE));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct KickReasons(u32);

impl KickReasons {
    /// How many reasons there are.
    pub const COUNT: u32 = 31;

    const ALL_BITS: u32 = (1 << Self::COUNT) - 1;

    /// A kick without a reason.
    pub const NONE: Self = KickReasons(0);

    /// The reason with this number.
    ///
    /// # Panics
    /// If it is not below [`KickReasons::COUNT`]; in a constant, that is an error of compilation.
    #[must_use]
    pub const fn number(number: u32) -> Self {
        assert!(number < Self::COUNT, "reasons are numbered from 0 to 30");
        KickReasons(1 << number)
    }

    /// The reasons whose bits are set; `None` if the highest bit is.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Option<Self> {
        match bits & !Self::ALL_BITS {
            0 => Some(KickReasons(bits)),
            _ => None,
        }
    }

    /// Bit n stands for reason n.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of these reasons are among `self`.
    #[must_use]
    pub const fn contains(self, reasons: Self) -> bool {
        self.0 & reasons.0 == reasons.0
    }

    /// Whether no reason was given.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for KickReasons {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        KickReasons(self.0 | other.0)
    }
}

impl BitOrAssign for KickReasons {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for KickReasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = (0..Self::COUNT).filter(|&number| self.contains(Self::number(number)));
        f.debug_set().entries(numbers).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_bit_is_no_reason() {
        assert_eq!(KickReasons::from_bits(1 << 31), None);
        let all = KickReasons::from_bits(u32::MAX >> 1).unwrap();
        assert!(all.contains(KickReasons::number(30)));
    }

    #[test]
    fn reasons_are_shown_by_number() {
        let reasons = KickReasons::number(3) | KickReasons::number(30);
        assert_eq!(format!("{reasons:?}"), "{3, 30}");
    }
}
