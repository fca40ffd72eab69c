//! What a guest or user thread executes: turns of ordinary work and split locks.

use serde::Serialize;

use crate::time::Nanos;

/// A loop. Each turn computes for a while and then executes some split locks, back to back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Program {
    compute: u64,
    splits: u32,
    split: u64,
}

/// A program that cannot run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// A split lock that takes no time.
    #[error("split_cost: a split lock takes more than 0 ns")]
    FreeSplit,
    /// A turn that takes no time.
    #[error("compute: a turn takes more than 0 ns")]
    FreeTurn,
    /// A turn longer than the model computes with.
    #[error("program: one turn takes longer than {longest}", longest = Nanos::LONGEST)]
    TooLong,
}

impl Program {
    /// Turns of `compute` ordinary work followed by `splits` split locks of `split_cost` each (the
    /// time one takes while detection is off: a bus lock).
    ///
    /// # Errors
    /// [`ProgramError`] if a turn would take no time, a split lock would, or a turn takes too long.
    pub fn new(compute: Nanos, splits: u32, split_cost: Nanos) -> Result<Self, ProgramError> {
        if splits > 0 && split_cost == Nanos::ZERO {
            return Err(ProgramError::FreeSplit);
        }
        let turn = u64::from(splits)
            .checked_mul(split_cost.0)
            .and_then(|locks| locks.checked_add(compute.0))
            .filter(|&turn| turn <= Nanos::LONGEST.0)
            .ok_or(ProgramError::TooLong)?;
        if turn == 0 {
            return Err(ProgramError::FreeTurn);
        }
        Ok(Self {
            compute: compute.0,
            splits,
            split: split_cost.0,
        })
    }

    /// One split lock after the other, each a turn: the reference guest.
    ///
    /// # Errors
    /// [`ProgramError::FreeSplit`] if it would take no time.
    pub fn split_loop(split_cost: Nanos) -> Result<Self, ProgramError> {
        Self::new(Nanos::ZERO, 1, split_cost)
    }

    /// No split locks at all: turns of ordinary work.
    ///
    /// # Errors
    /// [`ProgramError::FreeTurn`] if a turn would take no time.
    pub fn plain_loop(turn_cost: Nanos) -> Result<Self, ProgramError> {
        Self::new(turn_cost, 0, Nanos::ZERO)
    }

    /// How long a turn takes while nothing is detected.
    #[must_use]
    pub const fn turn(&self) -> Nanos {
        Nanos(self.compute + self.splits as u64 * self.split)
    }

    /// Ordinary work per turn.
    #[must_use]
    pub const fn compute(&self) -> Nanos {
        Nanos(self.compute)
    }

    /// How long one split lock takes while detection is off.
    #[must_use]
    pub const fn split_cost(&self) -> Nanos {
        Nanos(self.split)
    }

    /// Split locks per turn.
    #[must_use]
    pub const fn splits(&self) -> u32 {
        self.splits
    }

    /// Runs for `time` from `position` (ns into the turn). Gives completed turns and split locks.
    pub(super) fn advance(&self, position: &mut u64, time: u64) -> (u64, u64) {
        let before = self.splits_before(*position);
        let (total, turn) = (*position + time, self.turn().0);
        let turns = if total < turn { 0 } else { total / turn };
        *position = total - turns * turn;
        let splits = turns * u64::from(self.splits) + self.splits_before(*position) - before;
        (turns, splits)
    }

    /// Time until the next split lock begins; none if the program has none.
    pub(super) fn until_split(&self, position: u64) -> Option<u64> {
        if self.splits == 0 {
            return None;
        }
        let Some(into) = position.checked_sub(self.compute) else {
            return Some(self.compute - position);
        };
        let rest = (self.split - into % self.split) % self.split;
        let ends_turn = rest > 0 && position + rest == self.turn().0;
        Some(if ends_turn { rest + self.compute } else { rest })
    }

    /// Time until the next split lock ends; none if the program has none.
    pub(super) fn until_split_done(&self, position: u64) -> Option<u64> {
        match self.split_rest(position) {
            Some(rest) => Some(rest),
            None => self.until_split(position).map(|begin| begin + self.split),
        }
    }

    /// What is left of the split lock in progress: no interrupt is taken before it is done.
    pub(super) fn split_rest(&self, position: u64) -> Option<u64> {
        let into = position
            .checked_sub(self.compute)
            .filter(|_| self.splits > 0)?
            % self.split;
        (into > 0).then(|| self.split - into)
    }

    fn splits_before(&self, position: u64) -> u64 {
        match position.checked_sub(self.compute) {
            Some(into) if self.splits > 0 => into / self.split,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_within_a_turn() {
        let program = Program::new(Nanos(100), 2, Nanos(30)).expect("a program");
        assert_eq!(program.turn(), Nanos(160));
        for (position, until_split, until_done, rest) in [
            (0, 100, 130, None),
            (100, 0, 30, None),
            (101, 29, 29, Some(29)),
            (130, 0, 30, None),
            (131, 129, 29, Some(29)),
            (159, 101, 1, Some(1)),
        ] {
            assert_eq!(
                program.until_split(position),
                Some(until_split),
                "{position}"
            );
            assert_eq!(
                program.until_split_done(position),
                Some(until_done),
                "{position}"
            );
            assert_eq!(program.split_rest(position), rest, "{position}");
        }
    }

    #[test]
    fn advancing_in_steps_is_advancing_at_once() {
        let program = Program::new(Nanos(7), 3, Nanos(5)).expect("a program");
        let mut at_once = 0;
        let all = program.advance(&mut at_once, 1_000);
        let (mut position, mut turns, mut splits) = (0, 0, 0);
        for _ in 0..1_000 {
            let (t, s) = program.advance(&mut position, 1);
            (turns, splits) = (turns + t, splits + s);
        }
        assert_eq!((all, at_once), ((turns, splits), position));
        assert_eq!(turns, 1_000 / 22);
    }

    #[test]
    fn free_work_is_refused() {
        let message =
            |result: Result<Program, ProgramError>| result.expect_err("refused").to_string();
        assert!(message(Program::split_loop(Nanos(0))).starts_with("split_cost:"));
        assert!(message(Program::plain_loop(Nanos(0))).starts_with("compute:"));
        assert!(message(Program::new(Nanos(1), u32::MAX, Nanos::NEVER)).starts_with("program:"));
    }
}
