//! The decisions, without anybody to carry them out.

use std::time::Duration;

use super::config::{Config, Reaction};
use super::position::{PositionChange, PositionHistory};
use super::probe::ProbeInterval;
use super::progress::{Response, SplitInstruction};
use super::reported::Reported;
use super::run::{Ended, Run};
use crate::cpu::Registers;

/// The kernel's sleep takes at least 10 ms, but a run may have seen only its end.
const PUNISHED: Duration = Duration::from_millis(5);

/// What a guard knows and decides, as a state machine without I/O: it is told what has happened, and
/// says what is to be asked or done next. [`VcpuGuard`](super::VcpuGuard) asks and does it.
#[derive(Debug, Clone)]
pub(super) struct GuardState {
    config: Config,
    positions: PositionHistory,
    probe_interval: ProbeInterval,
    grace: Grace,
    reported: Reported,
    /// The run that is over, or as much as is over of the one that is not.
    run: Run,
    /// The VMM's own budget, when it was last asked.
    own: Duration,
    position_change: PositionChange,
    /// Another stall was to be expected in this run.
    expected: bool,
    /// How often the thread had slept, when that was last asked.
    sleeps: Option<u64>,
    /// The next split lock at which a run ends is to be taken for a stall.
    feigned: bool,
}

/// Long budgets, and what comes after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grace {
    None,
    /// The next run is long.
    Granted,
    /// The run after a long one is short: it shows whether the vCPU is stalled again.
    Probing,
}

/// Whether there is more to find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StallCheck {
    NoStall,
    Suspect,
}

/// What it means that a vCPU has stopped where it has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Finding {
    /// It has executed nothing; otherwise it is slow.
    pub(super) stalled: bool,
    pub(super) is_new: bool,
    /// It is to be emulated; otherwise the CPU is to do it.
    pub(super) emulate: bool,
}

impl GuardState {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            positions: PositionHistory::default(),
            probe_interval: ProbeInterval::default(),
            grace: Grace::None,
            reported: Reported::default(),
            run: Run::ZERO,
            own: Duration::MAX,
            position_change: PositionChange::New,
            expected: false,
            sleeps: None,
            feigned: false,
        }
    }

    pub(super) fn feign_stall(&mut self) {
        self.feigned = true;
    }

    /// How long the next run may be, if the VMM would give it `own`.
    pub(super) fn budget(&mut self, own: Duration) -> Duration {
        self.own = own;
        let shortest = self.config.shortest_probe;
        match self.grace {
            Grace::Granted => own.max(self.config.grace.unwrap_or_default()),
            Grace::Probing => own.min(shortest),
            Grace::None if self.emulates() => self.probe_interval.budget(own, shortest),
            Grace::None => own,
        }
    }

    /// A run is over. This is all that is done about one that progresses.
    pub(super) fn after_run(&mut self, run: &Run) -> StallCheck {
        if self.config.reaction == Reaction::Off {
            return StallCheck::NoStall;
        }
        self.run = self.run.and(run);
        if run.ended != Ended::Expired {
            return StallCheck::NoStall;
        }
        self.expected =
            self.probe_interval.has_stalled() || self.grace != Grace::None || self.feigned;
        self.probe_interval.advance(self.run.wall);
        self.grace = match self.grace {
            Grace::Granted => Grace::Probing,
            Grace::Probing | Grace::None => Grace::None,
        };
        if self.feigned || self.is_suspicious() {
            StallCheck::Suspect
        } else {
            self.end_run();
            StallCheck::NoStall
        }
    }

    /// Nothing was found that explains why a run was suspicious. A sleep may have been over by its
    /// end.
    pub(super) fn found_nothing(&mut self) {
        if self.emulates() && self.without_cpu() > PUNISHED {
            self.probe_interval.suspected();
        }
    }

    /// Everything has been found out about the run that there is.
    pub(super) fn end_run(&mut self) {
        self.run = Run::ZERO;
    }

    /// The thread was without a CPU for a part of the time, or for long enough for the kernel to have
    /// made it sleep.
    fn is_suspicious(&self) -> bool {
        let part = self.run.wall.mul_f64(self.config.suspicious_share);
        self.without_cpu() > part.min(PUNISHED)
    }

    fn without_cpu(&self) -> Duration {
        self.run.wall.saturating_sub(self.run.cpu)
    }

    /// Another stall was to be expected in this run: there is no need for more evidence.
    pub(super) fn expects_stall(&self) -> bool {
        self.expected
    }

    /// Whether the thread may have slept since this was last called, by how often it has so far.
    pub(super) fn slept(&mut self, sleeps: Option<u64>) -> bool {
        let before = std::mem::replace(&mut self.sleeps, sleeps);
        sleeps.is_none() || sleeps != before
    }

    /// Where the vCPU is after such a run. Whether the instruction there matters.
    pub(super) fn at_position(&mut self, registers: &Registers) -> StallCheck {
        self.position_change = self.positions.record(registers);
        if self.expected || self.position_change != PositionChange::New {
            StallCheck::Suspect
        } else {
            StallCheck::NoStall
        }
    }

    /// The instruction there, if it can split a lock.
    pub(super) fn found(&mut self, instruction: &SplitInstruction) -> Option<Finding> {
        let is_access = matches!(instruction, SplitInstruction::Access(_));
        let feigned = is_access && std::mem::take(&mut self.feigned);
        let stalled = feigned || self.position_change == PositionChange::Unchanged;
        // Most implicit locks do not split. One that does not end does.
        (is_access || stalled).then(|| Finding {
            stalled,
            is_new: self.reported.is_new(instruction.instruction().rip()),
            emulate: is_access && self.emulates(),
        })
    }

    /// The CPU is to do it. `None` if nothing can be done to help it.
    pub(super) fn let_through(&mut self) -> Option<Response> {
        let grace = self.config.grace?;
        if self.config.reaction == Reaction::Report {
            return None;
        }
        if self.own >= grace {
            return Some(Response::LetThrough);
        }
        self.grace = Grace::Granted;
        Some(Response::Grace(grace))
    }

    /// It has been emulated after a stall.
    pub(super) fn emulated_at_stall(&mut self, watched: bool) {
        self.positions.forget_last();
        if watched {
            // The next one makes itself known.
            self.probe_interval = ProbeInterval::default();
        } else {
            self.probe_interval.stalled();
        }
    }

    fn emulates(&self) -> bool {
        matches!(self.config.reaction, Reaction::Emulate | Reaction::Auto)
    }
}
