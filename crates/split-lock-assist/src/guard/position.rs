//! Whether a vCPU is where it was before.

use crate::cpu::Registers;

/// How many places are remembered.
const PLACES: usize = 4;

/// Where a vCPU was when it had got hardly any CPU time.
///
/// What it did between two such moments does not matter: another task may have run.
#[derive(Debug, Clone, Default)]
pub(super) struct PositionHistory {
    last: Option<Registers>,
    recent: [Option<u64>; PLACES],
    oldest: usize,
}

/// What a vCPU looks like beside what was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PositionChange {
    /// No register has changed since the last time: it may not have executed anything.
    Unchanged,
    /// It is at an instruction where it was before, but it has moved since.
    Returned,
    /// It is somewhere else.
    New,
}

impl PositionHistory {
    pub(super) fn record(&mut self, registers: &Registers) -> PositionChange {
        let unchanged = self.last.replace(*registers) == Some(*registers);
        let again = self.recent.contains(&Some(registers.rip));
        if !again {
            self.recent[self.oldest] = Some(registers.rip);
            self.oldest = (self.oldest + 1) % PLACES;
        }
        match (unchanged, again) {
            (true, _) => PositionChange::Unchanged,
            (false, true) => PositionChange::Returned,
            (false, false) => PositionChange::New,
        }
    }

    /// It has been moved on by force: if it is there again, it has come back.
    pub(super) fn forget_last(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(rip: u64, rcx: u64) -> Registers {
        let mut registers = Registers {
            rip,
            ..Registers::default()
        };
        registers.gpr[1] = rcx;
        registers
    }

    #[test]
    fn only_a_vcpu_that_has_not_moved_at_all_is_unchanged() {
        let mut history = PositionHistory::default();
        assert_eq!(history.record(&at(1, 0)), PositionChange::New);
        assert_eq!(history.record(&at(1, 0)), PositionChange::Unchanged);
        assert_eq!(history.record(&at(1, 1)), PositionChange::Returned);
        assert_eq!(history.record(&at(2, 1)), PositionChange::New);
        assert_eq!(history.record(&at(1, 1)), PositionChange::Returned);
        history.forget_last();
        assert_eq!(history.record(&at(1, 1)), PositionChange::Returned);
        assert_eq!(history.record(&at(1, 1)), PositionChange::Unchanged);
    }

    #[test]
    fn a_few_places_are_remembered_and_no_more() {
        let mut history = PositionHistory::default();
        for rip in 0..4 {
            assert_eq!(history.record(&at(rip, 0)), PositionChange::New);
        }
        for rip in 0..4 {
            assert_eq!(history.record(&at(rip, 1)), PositionChange::Returned);
        }
        assert_eq!(history.record(&at(4, 0)), PositionChange::New);
        assert_eq!(history.record(&at(0, 0)), PositionChange::New);
    }
}
