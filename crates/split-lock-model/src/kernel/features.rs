//! The features that tell one kernel's treatment of split locks from another's.

use std::fmt;

use serde::Serialize;

use crate::time::{Hz, Jiffies};

/// What happens to a thread that meets detection in mode `warn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Era {
    /// Before 5.7: no detection.
    None,
    /// 5.7 to 5.18: one trap, then detection is off for that thread for life.
    Thread,
    /// Since 5.19 (b041b525dab9): a sleep, a system-wide semaphore, a short window, every time.
    Misery,
}

/// `split_lock_detect=`, the boot option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// No detection.
    Off,
    /// Warn and slow down; the default where the CPU can detect.
    Warn,
    /// SIGBUS.
    Fatal,
    /// No split-lock detection; at most this many bus locks of user threads a second.
    Ratelimit(u16),
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Warn => f.write_str("warn"),
            Self::Fatal => f.write_str("fatal"),
            Self::Ratelimit(n) => write!(f, "ratelimit:{n}"),
        }
    }
}

/// A kernel's behaviour, feature by feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Features {
    /// What `warn` does.
    pub era: Era,
    /// `msleep` sleeps one tick longer than asked; lost in 6.12 (4381b895f544).
    pub extra_jiffy: bool,
    /// `kernel.split_lock_mitigate` exists; since 6.2 (727209376f49) and in stable backports.
    pub sysctl: bool,
    /// With mitigate=0 each CPU has its own re-enable work; since 6.15 (c929d08df8be) and in some
    /// stable kernels. Without it, one work item serves the whole machine and forgets CPUs.
    pub per_cpu_reenable: bool,
    /// `split_lock_detect=ratelimit:N` exists; since 5.14 (ef4ae6e44131).
    pub ratelimit: bool,
    /// Bus-lock #DB of Intel CPUs is used; since 5.13 (ebb1064e7c2e).
    pub intel_bus_lock: bool,
    /// Bus-lock #DB of AMD CPUs is used; since 6.13 (408eb7417a92).
    pub amd_bus_lock: bool,
}

impl Features {
    /// No detection of any kind.
    pub const NONE: Self = Self {
        era: Era::None,
        extra_jiffy: true,
        sysctl: false,
        per_cpu_reenable: false,
        ratelimit: false,
        intel_bus_lock: false,
        amd_bus_lock: false,
    };

    /// The boot mode of a kernel that is given none.
    pub(super) fn default_mode(&self) -> Mode {
        match self.era {
            Era::None => Mode::Off,
            Era::Thread | Era::Misery => Mode::Warn,
        }
    }

    /// T, the ticks that `msleep(ms)` asks the timer wheel for.
    ///
    /// The wheel never fires early, so the sleep itself lasts more than T and at most T + 1 ticks.
    #[must_use]
    pub const fn msleep_ticks(&self, ms: u64, hz: Hz) -> Jiffies {
        hz.ticks_for_millis(ms)
            .plus(Jiffies(self.extra_jiffy as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sleep_of_ten_milliseconds_in_ticks() {
        let ticks = |extra_jiffy| {
            let features = Features {
                extra_jiffy,
                ..Features::NONE
            };
            Hz::ALL.map(|hz| features.msleep_ticks(10, hz).0)
        };
        assert_eq!(ticks(true), [2, 4, 4, 11]);
        assert_eq!(ticks(false), [1, 3, 3, 10]);
    }
}
