//! The proof that everything repeats.
//!
//! At certain moments the whole state of the machine is written down with all times relative to
//! now. If two such states are equal, to the last word, everything between them happens again and
//! again. One state is kept and compared with later ones; the kept one is replaced after 1, 2, 4,
//! 8 ... comparisons (Brent's method), so a cycle of any length is found, with the memory of two
//! states. States are compared only where the phase within the ticks' pattern is equal too, which
//! is part of the state and costs nothing to check first.

use super::report::{Cycle, CycleShare, TrapCounts};
use super::scenario::{Scenario, Until};
use crate::time::Nanos;

#[derive(Debug)]
pub(super) struct CycleFinder {
    searching: bool,
    /// Any cycle ends the simulation, and not only one without progress.
    any: bool,
    kept: Kept,
    scratch: Vec<u64>,
    seen_since: u64,
    keep_for: u64,
    found: Option<(Cycle, Vec<CycleShare>)>,
}

#[derive(Debug, Default)]
struct Kept {
    state: Vec<u64>,
    phase: Nanos,
    at: Nanos,
    counts: Vec<(u64, TrapCounts)>,
}

impl CycleFinder {
    pub(super) fn new(scenario: &Scenario) -> Self {
        // Randomness has no period, and counted runs end by themselves.
        let random = scenario
            .tasks
            .iter()
            .any(|t| t.noise.is_some() || t.migrate_every.is_some());
        Self {
            searching: !random && matches!(scenario.until, Until::AllStuck | Until::Cycle),
            any: scenario.until == Until::Cycle,
            kept: Kept::default(),
            scratch: Vec::new(),
            seen_since: 0,
            keep_for: 1,
            found: None,
        }
    }

    pub(super) fn found(&self) -> Option<Cycle> {
        self.found.as_ref().map(|(cycle, _)| *cycle)
    }

    pub(super) fn share(&self, task: usize) -> Option<CycleShare> {
        self.found.as_ref().map(|(_, shares)| shares[task])
    }

    /// Room to write the state down, if a moment with this phase is one to compare or to keep.
    pub(super) fn room_for_state(&mut self, phase: Nanos) -> Option<Vec<u64>> {
        if !self.searching {
            return None;
        }
        let due = self.is_comparable(phase) || self.is_to_be_replaced();
        self.seen_since += 1;
        due.then(|| {
            let mut room = std::mem::take(&mut self.scratch);
            room.clear();
            room
        })
    }

    /// Compares a state with the kept one. The answer is whether the simulation has found what it
    /// was looking for.
    pub(super) fn compare(
        &mut self,
        state: Vec<u64>,
        phase: Nanos,
        now: Nanos,
        counts: impl Iterator<Item = (u64, TrapCounts)>,
    ) -> bool {
        self.scratch = state;
        if self.is_comparable(phase) && self.scratch == self.kept.state {
            // Two looks at one moment are no state that came back later.
            return self.kept.at != now && self.cycle_found(now, counts);
        }
        // This look has been counted.
        if self.seen_since > self.keep_for || self.kept.state.is_empty() {
            std::mem::swap(&mut self.kept.state, &mut self.scratch);
            (self.kept.phase, self.kept.at) = (phase, now);
            self.kept.counts.clear();
            self.kept.counts.extend(counts);
            self.seen_since = 0;
            self.keep_for *= 2;
        }
        false
    }

    fn is_comparable(&self, phase: Nanos) -> bool {
        phase == self.kept.phase && !self.kept.state.is_empty()
    }

    fn is_to_be_replaced(&self) -> bool {
        self.seen_since >= self.keep_for || self.kept.state.is_empty()
    }

    fn cycle_found(&mut self, now: Nanos, counts: impl Iterator<Item = (u64, TrapCounts)>) -> bool {
        let cycle = Cycle {
            start: self.kept.at,
            period: now.since(self.kept.at),
        };
        let shares = counts.zip(&self.kept.counts);
        let shares = shares.map(
            |((turns, traps), (turns_before, traps_before))| CycleShare {
                turns: turns - turns_before,
                traps: traps.minus(traps_before),
            },
        );
        let shares: Vec<_> = shares.collect();
        let all_stuck = shares.iter().all(|share| share.turns == 0);
        self.found = Some((cycle, shares));
        self.searching = false;
        all_stuck || self.any
    }
}
