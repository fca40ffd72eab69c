//! The proof that everything repeats.
//!
//! At certain moments the whole state of the machine is written down with all times relative to
//! now. If two such states are equal, to the last word, everything between them happens again and
//! again. One state is kept and compared with later ones; the kept one is replaced after 1, 2, 4,
//! 8 ... comparisons (Brent's method), so a cycle of any length is found, with the memory of two
//! states. States are compared only where the phase within the ticks' pattern is equal too, which
//! is part of the state and costs nothing to check first.

use super::engine::Machine;
use super::report::{Cycle, CycleShare, End, TrapCounts};
use super::scenario::{Scenario, Until};
use super::thread::State;
use crate::policy::Policy;
use crate::time::Nanos;

#[derive(Debug)]
pub(super) struct CycleFinder {
    searching: bool,
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
    at: u64,
    counts: Vec<(u64, TrapCounts)>,
}

impl CycleFinder {
    pub(super) fn new(scenario: &Scenario, threads: usize) -> Self {
        // Randomness has no period, and counted runs end by themselves.
        let random = scenario
            .tasks
            .iter()
            .any(|t| t.noise.is_some() || t.migrate_every.is_some());
        let searching = !random && matches!(scenario.until, Until::AllStuck | Until::Cycle);
        Self {
            searching,
            kept: Kept {
                counts: Vec::with_capacity(threads),
                ..Kept::default()
            },
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
}

impl<P: Policy> Machine<'_, P> {
    pub(super) fn look_for_cycle(&mut self) -> Option<End> {
        if !self.cycle.searching {
            return None;
        }
        let phase = self.clock.phase_at(Nanos(self.now));
        let comparable = phase == self.cycle.kept.phase && !self.cycle.kept.state.is_empty();
        let replace = self.cycle.seen_since >= self.cycle.keep_for;
        self.cycle.seen_since += 1;
        if !comparable && !replace && !self.cycle.kept.state.is_empty() {
            return None;
        }
        self.write_state();
        if comparable && self.cycle.scratch == self.cycle.kept.state {
            return self.cycle_found();
        }
        if replace || self.cycle.kept.state.is_empty() {
            self.keep(phase);
        }
        None
    }

    fn write_state(&mut self) {
        let mut out = std::mem::take(&mut self.cycle.scratch);
        out.clear();
        for task in 0..self.threads.len() {
            if self.threads[task].state != State::NotStarted {
                self.settle(task);
            }
            self.threads[task].relative_state(self.now, &mut out);
        }
        self.calendar.relative_state(self.now, &mut out);
        for cpu in &self.cpus {
            out.push(cpu.running.map_or(0, |task| task as u64 + 1));
            out.push(cpu.ready.len() as u64);
            out.extend(cpu.ready.iter().map(|&task| task as u64));
        }
        self.policy.relative_state(self.jiffies(), &mut out);
        self.cycle.scratch = out;
    }

    fn keep(&mut self, phase: Nanos) {
        let finder = &mut self.cycle;
        std::mem::swap(&mut finder.kept.state, &mut finder.scratch);
        finder.kept.phase = phase;
        finder.kept.at = self.now;
        finder.kept.counts.clear();
        let counts = self.threads.iter().map(|t| (t.stats.turns, t.stats.traps));
        finder.kept.counts.extend(counts);
        finder.seen_since = 0;
        finder.keep_for *= 2;
    }

    fn cycle_found(&mut self) -> Option<End> {
        let kept = &self.cycle.kept;
        if kept.at == self.now {
            // Two anchors at one moment, not a state that came back later.
            return None;
        }
        let cycle = Cycle {
            start: Nanos(kept.at),
            period: Nanos(self.now - kept.at),
        };
        let shares = self
            .threads
            .iter()
            .zip(&kept.counts)
            .map(|(thread, (turns, traps))| CycleShare {
                turns: thread.stats.turns - turns,
                traps: thread.stats.traps.minus(traps),
            });
        let shares: Vec<_> = shares.collect();
        let all_stuck = shares.iter().all(|share| share.turns == 0);
        self.cycle.found = Some((cycle, shares));
        self.cycle.searching = false;
        (all_stuck || self.scenario.until == Until::Cycle).then_some(End::Cycle)
    }
}
