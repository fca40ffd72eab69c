//! One thread alone: which signal periods let it through.

use serde::Serialize;

use crate::kernel::{Era, Mode, Profile};
use crate::time::{Hz, Jiffies, Nanos, TickClock};

/// Ticks from opening a window until its work runs, if it opened right after a tick: a delay of
/// two, and one because timers never fire early.
pub(super) const WINDOW: Jiffies = Jiffies(3);

/// The thresholds of a kernel that makes split-locking threads sleep.
///
/// ```
/// use split_lock_model::analysis::{PassPrediction, Thresholds};
/// use split_lock_model::time::Nanos;
///
/// let limits = Thresholds::of(&"6.1.192,hz=250".parse()?).expect("this kernel sleeps");
/// assert_eq!(limits.never_up_to(), Nanos::from_millis(12));
/// assert_eq!(limits.always_from(), Nanos::from_millis(16));
/// assert_eq!(limits.predict(Nanos::from_millis(1)), PassPrediction::Never);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Thresholds {
    hz: Hz,
    sleep: Jiffies,
}

/// A share of a whole, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ratio {
    /// The share.
    #[serde(rename = "favourable")]
    pub part: u64,
    /// The whole.
    #[serde(rename = "of")]
    pub whole: u64,
}

impl Ratio {
    /// For display.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.part as f64 / self.whole as f64
    }
}

/// What becomes of a trap that a signal follows after a given time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PassPrediction {
    /// The signal always comes too early.
    Never,
    /// It depends on where between two ticks the trap falls: the phases, in ns, at which the signal
    /// comes late enough.
    DependsOnPhase(Ratio),
    /// The signal always comes late enough.
    Always,
}

/// Whether a thread comes to its split lock while its window is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WindowUse {
    /// It comes before the shortest window closes.
    Used,
    /// It depends on where between two ticks the window opens.
    DependsOnPhase,
    /// Even the longest window has closed by then.
    Unused,
}

/// Threads that split as fast as they are let, and are interrupted by nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Saturation {
    /// How many threads, each on its own core.
    pub threads: u32,
    /// Ticks from one window of a thread to its next.
    pub cycle: Jiffies,
    /// Ticks of each window.
    pub window: Jiffies,
}

impl Saturation {
    /// The share of its time that one thread has detection off on its core.
    #[must_use]
    pub const fn share(&self) -> Ratio {
        Ratio {
            part: self.window.0,
            whole: self.cycle.0,
        }
    }
}

impl Thresholds {
    /// The thresholds of this kernel, or `None` if it makes no thread sleep: no detection, one trap
    /// per thread, mitigate=0, SIGBUS or rate limit.
    #[must_use]
    pub fn of(profile: &Profile) -> Option<Self> {
        let sleeps = profile.features().era == Era::Misery
            && profile.mode() == Mode::Warn
            && profile.mitigate();
        sleeps.then(|| Self {
            hz: profile.hz(),
            sleep: profile.sleep_ticks(),
        })
    }

    /// The tick rate.
    #[must_use]
    pub const fn hz(&self) -> Hz {
        self.hz
    }

    /// T: the ticks that the sleep asks for.
    #[must_use]
    pub const fn sleep_ticks(&self) -> Jiffies {
        self.sleep
    }

    /// The undisturbed sleep lasts more than the first and at most the second: T to T + 1 ticks.
    #[must_use]
    pub const fn sleep(&self) -> (Nanos, Nanos) {
        let longest = self.sleep.plus(Jiffies(1));
        (
            self.hz.shortest_span(self.sleep),
            self.hz.longest_span(longest),
        )
    }

    /// A window lasts more than the first and at most the second: 2 to 3 ticks.
    #[must_use]
    pub const fn window(&self) -> (Nanos, Nanos) {
        let shortest = Jiffies(WINDOW.0 - 1);
        (
            self.hz.shortest_span(shortest),
            self.hz.longest_span(WINDOW),
        )
    }

    /// The longest time from trap to signal that can never be enough: T - 1 ticks.
    ///
    /// The sleep counts as complete once T ticks have passed, and T ticks span T - 1 intervals.
    #[must_use]
    pub const fn never_up_to(&self) -> Nanos {
        self.hz
            .shortest_span(Jiffies(self.sleep.0.saturating_sub(1)))
    }

    /// The shortest time from trap to signal that is always enough: T ticks.
    #[must_use]
    pub const fn always_from(&self) -> Nanos {
        self.hz.longest_span(self.sleep)
    }

    /// What becomes of a trap that a signal follows after `period`, with no other thread around.
    ///
    /// Between the limits a period holds either T or T - 1 ticks. Summed over all phases of the
    /// ticks' pattern, to the nanosecond, it holds `period` times the pattern's ticks, so the share
    /// of phases with T follows without looking at any.
    #[must_use]
    pub const fn predict(&self, period: Nanos) -> PassPrediction {
        if period.0 <= self.never_up_to().0 {
            return PassPrediction::Never;
        }
        if period.0 >= self.always_from().0 {
            return PassPrediction::Always;
        }
        let pattern = self.hz.pattern().0;
        let ticks_in_pattern = pattern * self.hz.get() as u64 / 1_000_000_000;
        let part = period.0 * ticks_in_pattern - (self.sleep.0 - 1) * pattern;
        PassPrediction::DependsOnPhase(Ratio {
            part,
            whole: pattern,
        })
    }

    /// What becomes of a window if its thread comes to the instruction `delay` after it has opened: because its guest
    /// serves interrupts first, or others have its CPU.
    ///
    /// After a sleep a window opens right after a tick, and lasts nearly as long as it can.
    #[must_use]
    pub fn window_use(&self, delay: Nanos) -> WindowUse {
        let (over, up_to) = self.window();
        if delay <= over {
            WindowUse::Used
        } else if delay >= up_to {
            WindowUse::Unused
        } else {
            WindowUse::DependsOnPhase
        }
    }

    /// Whether a trap at `trap`, on a machine with these ticks, gets past its sleep if a signal
    /// comes `period` later.
    #[must_use]
    pub const fn passes(&self, clock: TickClock, trap: Nanos, period: Nanos) -> bool {
        let ticks = clock
            .jiffies_at(trap.plus(period))
            .since(clock.jiffies_at(trap));
        ticks.0 >= self.sleep.0
    }

    /// What `threads` threads get, each on its own core, that split without pause.
    ///
    /// Everything happens right after ticks. A thread sleeps T + 1 ticks and has a window of 3; and
    /// the semaphore serves one window at a time, which decides once there are enough threads.
    #[must_use]
    pub fn saturated(&self, threads: u32) -> Saturation {
        let alone = self.sleep.0 + 1 + WINDOW.0;
        let served = WINDOW.0 * u64::from(threads);
        Saturation {
            threads,
            cycle: Jiffies(alone.max(served)),
            window: WINDOW,
        }
    }
}
