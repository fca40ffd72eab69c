//! What became of the thread on CPU 0 in one experiment: from the CPU's journal, and the kernel's notes of its signals.

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use split_lock_lab::cpu::journal::{self, Journal};
use split_lock_lab::cpu::trace::{Noted, What};
use split_lock_lab::cpu::windows::windows;
use split_lock_lab::journal::Kind;

/// The CPU that is looked at.
const CPU: u16 = 0;

/// When threads that began together have come to their places in the queue.
pub(super) const SETTLED_MS: u64 = 40;

/// Of all rounds of an experiment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Measured {
    /// By round: split locks done, as a share of those that the thread does in the same time while nothing detects them.
    pub(super) progress: Vec<f64>,
    /// By CPU: the share of time with detection off.
    pub(super) off: Vec<f64>,
    /// By CPU: how often detection was switched off.
    pub(super) turns: Vec<u32>,
    /// From a signal to when the thread takes it, in their order, in microseconds.
    pub(super) signal_delays_us: Vec<u64>,
}

impl Measured {
    /// That of the round with least.
    pub(super) fn worst_progress(&self) -> f64 {
        self.progress.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(super) fn worst_signal_delay_us(&self) -> u64 {
        self.signal_delays_us.iter().copied().max().unwrap_or(0)
    }

    /// `noted` has a mark at the beginning of each round, and a round is `round_ms` long. The first [`SETTLED_MS`] of
    /// each are left out.
    pub(super) fn of(noted: &[Noted], journal: &Journal, round_ms: u64) -> Result<Self> {
        let per_ms = u64::from(journal.ticks_per_second / 1000);
        let is_mark = |noted: &&Noted| matches!(noted.what, What::Event(Kind::Mark(_)));
        let rounds: Vec<Span> = noted
            .iter()
            .filter(is_mark)
            .map(|mark| Span {
                begin: mark.tick + SETTLED_MS * per_ms,
                end: mark.tick + round_ms * per_ms,
            })
            .collect();
        ensure!(!rounds.is_empty(), "the trace has no mark of a round");
        let first = noted.first().map_or(0, |noted| noted.tick);
        let last = noted.last().map_or(0, |noted| noted.tick);
        let locks: Vec<u64> = journal
            .events
            .iter()
            .filter(|event| event.cpu == u32::from(CPU))
            .filter(|event| matches!(event.kind, journal::Kind::BusLock(_)))
            .map(|event| event.tick)
            .filter(|tick| (first..=last).contains(tick))
            .collect();
        // Where there is none, the thread has done nothing.
        let apart = usual_distance(&locks).unwrap_or(0);
        let progress = rounds.iter().map(|round| {
            let done = locks.iter().filter(|&&tick| round.has(tick)).count();
            share(done as u64 * apart, round.length())
        });
        let whole = rounds.iter().map(Span::length).sum();
        let mut open = vec![0; journal.cpus as usize];
        let mut turns = vec![0; journal.cpus as usize];
        for window in windows(journal) {
            let overlaps = rounds.iter();
            let overlaps = overlaps.map(|round| round.overlap(window.opened, window.closed));
            let overlap: u64 = overlaps.sum();
            open[window.cpu as usize] += overlap;
            turns[window.cpu as usize] += u32::from(overlap > 0);
        }
        Ok(Self {
            progress: progress.collect(),
            off: open.into_iter().map(|open| share(open, whole)).collect(),
            turns,
            signal_delays_us: signal_delays(noted, &rounds, per_ms)?,
        })
    }
}

/// In ticks of the CPU.
#[derive(Clone, Copy, Debug)]
struct Span {
    begin: u64,
    end: u64,
}

impl Span {
    fn length(&self) -> u64 {
        self.end - self.begin
    }

    fn has(&self, tick: u64) -> bool {
        (self.begin..self.end).contains(&tick)
    }

    fn overlap(&self, begin: u64, end: u64) -> u64 {
        end.min(self.end).saturating_sub(begin.max(self.begin))
    }
}

/// The median: within a window most locks follow each other undisturbed.
fn usual_distance(locks: &[u64]) -> Option<u64> {
    let mut distances: Vec<u64> = locks.windows(2).map(|pair| pair[1] - pair[0]).collect();
    distances.sort_unstable();
    distances.get(distances.len() / 2).copied()
}

fn signal_delays(noted: &[Noted], rounds: &[Span], ticks_per_ms: u64) -> Result<Vec<u64>> {
    let is_trap = |noted: &&Noted| matches!(noted.what, What::SplitLock { .. }) && noted.cpu == CPU;
    let trap = noted.iter().find(is_trap);
    let pid = trap.context("no thread has trapped on CPU 0")?.pid;
    let mut waiting = None;
    let mut delays = Vec::new();
    for note in noted.iter().filter(|note| note.pid == pid) {
        match note.what {
            What::Event(Kind::Signal(_)) => {
                waiting.get_or_insert(note.tick);
            }
            What::Deliver => {
                let made = waiting.take();
                let made = made.filter(|&tick| rounds.iter().any(|round| round.has(tick)));
                delays.extend(made.map(|made| (note.tick - made) * 1000 / ticks_per_ms));
            }
            _ => {}
        }
    }
    Ok(delays)
}

fn share(part: u64, of: u64) -> f64 {
    part as f64 / of as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One million ticks are a second.
    const PER_MS: u64 = 1_000;

    fn noted(tick: u64, what: What) -> Noted {
        Noted {
            tick,
            cpu: 0,
            pid: 7,
            jiffies: None,
            what,
        }
    }

    fn event(tick: u64, cpu: u32, kind: journal::Kind) -> journal::Event {
        journal::Event {
            tick,
            cpu,
            rip: 0,
            guest: false,
            kind,
        }
    }

    const TRAP: What = What::SplitLock {
        ip: 1,
        guest: false,
    };

    fn measured(noted: &[Noted], events: Vec<journal::Event>) -> Measured {
        let journal = Journal {
            ticks_per_second: 1_000_000,
            cpus: 2,
            events,
            totals: None,
        };
        Measured::of(noted, &journal, 140).expect("it can be measured")
    }

    #[test]
    fn progress_and_time_off_are_those_after_each_round_has_settled() {
        let begin = 1_000_000;
        let settled = begin + SETTLED_MS * PER_MS;
        let notes = [
            noted(begin, What::Event(Kind::Mark(0))),
            noted(begin + 1, TRAP),
            noted(begin + 200_000, What::End),
        ];
        // 20 ms of a window, half of it before the round has settled; and 30 ms of another CPU's.
        let (off, on) = (journal::Kind::TestCtrl(0), journal::Kind::TestCtrl(1 << 29));
        let mut events = vec![event(settled - 10 * PER_MS, 0, off)];
        events.extend((0..200).map(|n| {
            event(
                settled - 10 * PER_MS + n * 100,
                0,
                journal::Kind::BusLock(62),
            )
        }));
        events.push(event(settled + 10 * PER_MS, 0, on));
        events.push(event(settled + 20 * PER_MS, 1, off));
        events.push(event(settled + 50 * PER_MS, 1, on));
        let found = measured(&notes, events);
        assert_eq!(found.progress, [0.1]);
        assert_eq!(found.off, [0.1, 0.3]);
        assert_eq!(found.turns, [1, 1]);
    }

    #[test]
    fn thread_that_does_nothing_has_no_progress() {
        let notes = [noted(5, What::Event(Kind::Mark(0))), noted(6, TRAP)];
        let found = measured(&notes, Vec::new());
        assert_eq!((found.worst_progress(), found.off), (0.0, vec![0.0, 0.0]));
    }

    #[test]
    fn signal_waits_from_its_first_making_until_it_is_taken() {
        let at = |ms: u64, what| noted(ms * PER_MS, what);
        let mut other = at(41, What::Event(Kind::Signal(34)));
        other.pid = 8;
        let notes = [
            at(0, What::Event(Kind::Mark(0))),
            at(1, TRAP),
            // Before it counts.
            at(10, What::Event(Kind::Signal(34))),
            at(30, What::Deliver),
            other,
            at(50, What::Event(Kind::Signal(34))),
            at(51, What::Event(Kind::Signal(34))),
            at(54, What::Deliver),
            at(55, What::Deliver),
        ];
        assert_eq!(measured(&notes, Vec::new()).signal_delays_us, [4_000]);
    }
}
