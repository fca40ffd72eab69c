//! Sets of signals as KVM takes them.

use std::fmt;

/// A set of signals, in the form in which KVM_SET_SIGNAL_MASK takes it: bit n - 1 stands for signal n.
///
/// ```
/// use kvm_preemption_timer::SignalSet;
///
/// // All but SIGUSR1 and SIGKILL.
/// let mask = SignalSet::from_bits(u64::MAX).without(10).without(9);
/// assert!(mask.contains(12) && !mask.contains(10));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SignalSet(u64);

impl SignalSet {
    /// The set with these bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        SignalSet(bits)
    }

    /// The set's bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether this signal is in it.
    #[must_use]
    pub const fn contains(self, number: i32) -> bool {
        self.0 & Self::bit(number) != 0
    }

    /// The same set with this signal. Numbers that no signal has change nothing.
    #[must_use]
    pub const fn with(self, number: i32) -> Self {
        SignalSet(self.0 | Self::bit(number))
    }

    /// The same set without this signal.
    #[must_use]
    pub const fn without(self, number: i32) -> Self {
        SignalSet(self.0 & !Self::bit(number))
    }

    const fn bit(number: i32) -> u64 {
        match number {
            1..=64 => 1 << (number - 1),
            _ => 0,
        }
    }
}

impl fmt::Debug for SignalSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries((1..=64).filter(|&number| self.contains(number)))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_can_be_asked_for() {
        for number in [i32::MIN, -1, 0, 65, i32::MAX] {
            let set = SignalSet::default().with(number);
            assert!(!set.contains(number) && set.bits() == 0);
        }
        assert_eq!(SignalSet::default().with(64).bits(), 1 << 63);
        assert_eq!(format!("{:?}", SignalSet::from_bits(0b101)), "{1, 3}");
    }
}
