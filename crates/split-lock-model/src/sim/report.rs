//! What a simulation found.

use serde::Serialize;

use super::timeline::Timeline;
use crate::time::Nanos;

/// Everything a simulation found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The simulated time.
    pub elapsed: Nanos,
    /// Why it ended.
    pub end: End,
    /// Events handled.
    pub events: u64,
    /// Per thread, in the scenario's order.
    pub tasks: Vec<TaskReport>,
    /// Time with detection off.
    pub windows: Windows,
    /// From when on everything repeats, if that was proved.
    pub cycle: Option<Cycle>,
    /// The finished runs of the first thread, if the scenario asked for them.
    pub runs: Vec<Run>,
    /// What happened when, if the scenario asked for it.
    pub timeline: Option<Timeline>,
}

/// Why a simulation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The horizon was reached.
    Horizon,
    /// The state repeats.
    Cycle,
    /// The asked-for runs are done.
    Runs,
    /// Nothing can happen any more.
    Quiet,
}

/// From `start` on, everything repeats every `period`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cycle {
    /// The first moment whose state comes back, as found (earlier ones may).
    pub start: Nanos,
    /// After how long it comes back.
    pub period: Nanos,
}

/// What a thread does in one proved cycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CycleShare {
    /// Turns completed.
    pub turns: u64,
    /// Traps met.
    pub traps: TrapCounts,
}

/// Detection off, summed over cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Windows {
    /// Windows opened.
    pub opened: u64,
    /// Time that cores spent with detection off.
    pub open: Nanos,
    /// Of that, time in which a thread ran its program there.
    pub used: Nanos,
    /// Time in which the semaphore was taken.
    pub semaphore_held: Nanos,
}

/// What became of one thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TaskReport {
    /// Its name.
    pub name: String,
    /// Turns completed.
    pub turns: u64,
    /// Split locks executed.
    pub splits: u64,
    /// Where its time went.
    pub time: TimeByCause,
    /// Its traps by result.
    pub traps: TrapCounts,
    /// Returns from KVM_RUN with EINTR, or signals handled by a user thread.
    pub signals: u64,
    /// Timer expiries that found the last one still waiting.
    pub missed: u64,
    /// Times it was named in the kernel log, before rate limiting.
    pub messages: u64,
    /// The longest any signal waited to be taken; a signal that still waits at the end counts.
    pub worst_signal_delay: Nanos,
    /// When it was killed or got SIGBUS, if it did.
    pub died_at: Option<Nanos>,
    /// From being killed to being dead.
    pub kill_delay: Option<Nanos>,
    /// Its part in the proved cycle, if there is one.
    pub cycle: Option<CycleShare>,
    /// The judgement.
    pub verdict: Verdict,
}

/// Where a thread's time went. The parts add up to its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TimeByCause {
    /// Running its program.
    pub guest: Nanos,
    /// Serving interrupts in the guest before it came back to its program.
    pub interrupts: Nanos,
    /// In the punishing sleep.
    pub asleep: Nanos,
    /// Waiting for the semaphore.
    pub queued: Nanos,
    /// In the kernel on the way into or out of the handler.
    pub kernel: Nanos,
    /// In the VMM between two runs, or in the user thread's signal handler.
    pub vmm: Nanos,
    /// Ready, while other threads had its CPU.
    pub waiting_for_cpu: Nanos,
    /// Not part of the sum: of the windows this thread opened, the time nobody ran a program in.
    pub window_unused: Nanos,
}

impl TimeByCause {
    /// The thread's life.
    #[must_use]
    pub const fn total(&self) -> Nanos {
        let outside = self.vmm.0 + self.waiting_for_cpu.0 + self.punished().0;
        Nanos(self.guest.0 + self.interrupts.0 + outside)
    }

    /// What split locks cost the thread beyond executing them.
    #[must_use]
    pub const fn punished(&self) -> Nanos {
        Nanos(self.asleep.0 + self.queued.0 + self.kernel.0)
    }
}

/// Traps by what came of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TrapCounts {
    /// Led to a window with detection off.
    pub window: u64,
    /// Of those windows, the ones that closed before the thread had executed a split lock.
    pub unused: UnusedWindows,
    /// Came to nothing because a signal already waited.
    pub signal_pending: u64,
    /// Came to nothing because a signal ended the sleep.
    pub cut_asleep: u64,
    /// Came to nothing because a signal ended the wait for the semaphore.
    pub cut_queued: u64,
    /// Ended in SIGBUS.
    pub sigbus: u64,
    /// Freed the thread from detection (5.7 to 5.18).
    pub exempted: u64,
    /// Reported after the access (#DB).
    pub bus_lock: u64,
}

impl TrapCounts {
    /// Traps that came to nothing.
    #[must_use]
    pub const fn interrupted(&self) -> u64 {
        self.signal_pending + self.cut_asleep + self.cut_queued
    }

    pub(super) const fn minus(&self, earlier: &Self) -> Self {
        Self {
            window: self.window - earlier.window,
            unused: self.unused.minus(&earlier.unused),
            signal_pending: self.signal_pending - earlier.signal_pending,
            cut_asleep: self.cut_asleep - earlier.cut_asleep,
            cut_queued: self.cut_queued - earlier.cut_queued,
            sigbus: self.sigbus - earlier.sigbus,
            exempted: self.exempted - earlier.exempted,
            bus_lock: self.bus_lock - earlier.bus_lock,
        }
    }
}

/// Windows that closed before their thread had executed a split lock, by what it did for the longest time instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UnusedWindows {
    /// Its guest served interrupts.
    pub interrupts: u64,
    /// Others had its CPU.
    pub without_cpu: u64,
    /// It was in the kernel, in the VMM, or in its signal handler.
    pub outside: u64,
    /// It was on another core by then, where detection was on.
    pub moved: u64,
}

impl UnusedWindows {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.interrupts + self.without_cpu + self.outside + self.moved
    }

    const fn minus(&self, earlier: &Self) -> Self {
        Self {
            interrupts: self.interrupts - earlier.interrupts,
            without_cpu: self.without_cpu - earlier.without_cpu,
            outside: self.outside - earlier.outside,
            moved: self.moved - earlier.moved,
        }
    }
}

/// A finished run of the first thread's bounded-run loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    /// Turns completed in it.
    pub turns: u64,
    /// From entering KVM_RUN to leaving it.
    pub elapsed: Nanos,
    /// CPU time the thread used meanwhile.
    pub cpu: Nanos,
}

/// How a thread fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Split locks cost it less than a hundredth of its time.
    #[default]
    Progresses,
    /// It progresses, at a price.
    Slowed {
        /// The time it wanted to run its program: what it got, and what punishment took.
        wanted: Nanos,
        /// The time it got.
        got: Nanos,
    },
    /// The kernel lets it past, and it does not come: more than half of its windows closed before it had executed a
    /// split lock.
    WindowsUnused {
        /// Its windows.
        granted: u64,
        /// Those that closed unused.
        unused: u64,
        /// As of [`Verdict::Slowed`].
        wanted: Nanos,
        /// As of [`Verdict::Slowed`].
        got: Nanos,
    },
    /// It will never complete another turn, because everything repeats without one and without a window.
    Livelocked(Cycle),
    /// It completed no turn, but nothing proves that it never will.
    NoProgressSeen,
    /// Killed, or ended by SIGBUS.
    Dead,
}

impl Verdict {
    /// Whether it is a proved livelock.
    #[must_use]
    pub const fn is_livelock(self) -> bool {
        matches!(self, Self::Livelocked(_))
    }

    /// How many times slower than unpunished, for display; infinite without progress.
    #[must_use]
    pub fn factor(self) -> f64 {
        match self {
            Self::Progresses => 1.0,
            Self::WindowsUnused {
                granted, unused, ..
            } if granted == unused => f64::INFINITY,
            Self::Slowed { wanted, got } | Self::WindowsUnused { wanted, got, .. } => {
                wanted.0 as f64 / got.0 as f64
            }
            Self::Livelocked(_) | Self::NoProgressSeen | Self::Dead => f64::INFINITY,
        }
    }

    const fn severity(self) -> (u8, u128) {
        match self {
            Self::Progresses => (0, 0),
            Self::Slowed { wanted, got } => (1, (wanted.0 as u128 * 1_000_000) / got.0 as u128),
            Self::WindowsUnused { unused, .. } => (2, unused as u128),
            Self::Dead => (3, 0),
            Self::NoProgressSeen => (4, 0),
            Self::Livelocked(_) => (5, 0),
        }
    }
}

impl TaskReport {
    /// Whether it will never complete another turn, by proof, or has completed none although it met detection.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        match self.verdict {
            Verdict::Livelocked(_) | Verdict::NoProgressSeen => true,
            Verdict::WindowsUnused { .. } => {
                self.cycle.map_or(self.turns, |share| share.turns) == 0
            }
            Verdict::Progresses | Verdict::Slowed { .. } | Verdict::Dead => false,
        }
    }
}

impl Report {
    /// The worst that happened to any thread.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let verdicts = self.tasks.iter().map(|task| task.verdict);
        verdicts
            .max_by_key(|verdict| verdict.severity())
            .unwrap_or(Verdict::Progresses)
    }
}
