//! Whether a vCPU is where it was before.

use crate::cpu::Registers;

/// How many places are remembered.
const PLACES: usize = 4;

/// Where a vCPU was when it had got hardly any CPU time.
///
/// What it did between two such moments does not matter: another task may have run.
#[derive(Debug, Clone, Default)]
pub(super) struct Suspicion {
    last: Option<Registers>,
    recent: [Option<u64>; PLACES],
    oldest: usize,
}

/// What a vCPU looks like beside what was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// No register has changed since the last time: it may not have executed anything.
    Unchanged,
    /// It is at an instruction where it was before, but it has moved since.
    Again,
    /// It is somewhere else.
    New,
}

impl Suspicion {
    pub(super) fn see(&mut self, registers: &Registers) -> Sight {
        let unchanged = self.last.replace(*registers) == Some(*registers);
        let again = self.recent.contains(&Some(registers.rip));
        if !again {
            self.recent[self.oldest] = Some(registers.rip);
            self.oldest = (self.oldest + 1) % PLACES;
        }
        match (unchanged, again) {
            (true, _) => Sight::Unchanged,
            (false, true) => Sight::Again,
            (false, false) => Sight::New,
        }
    }

    /// It has been moved on by force: if it is there again, it has come back.
    pub(super) fn moved_on(&mut self) {
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
        let mut suspicion = Suspicion::default();
        assert_eq!(suspicion.see(&at(1, 0)), Sight::New);
        assert_eq!(suspicion.see(&at(1, 0)), Sight::Unchanged);
        assert_eq!(suspicion.see(&at(1, 1)), Sight::Again);
        assert_eq!(suspicion.see(&at(2, 1)), Sight::New);
        assert_eq!(suspicion.see(&at(1, 1)), Sight::Again);
        suspicion.moved_on();
        assert_eq!(suspicion.see(&at(1, 1)), Sight::Again);
        assert_eq!(suspicion.see(&at(1, 1)), Sight::Unchanged);
    }

    #[test]
    fn a_few_places_are_remembered_and_no_more() {
        let mut suspicion = Suspicion::default();
        for rip in 0..4 {
            assert_eq!(suspicion.see(&at(rip, 0)), Sight::New);
        }
        for rip in 0..4 {
            assert_eq!(suspicion.see(&at(rip, 1)), Sight::Again);
        }
        assert_eq!(suspicion.see(&at(4, 0)), Sight::New);
        assert_eq!(suspicion.see(&at(0, 0)), Sight::New);
    }
}
