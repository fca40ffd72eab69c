//! When a thread that does not get past an instruction is in a livelock, and not only late.

use std::time::Duration;

use serde::Serialize;
use split_lock_host::Facts;
use split_lock_model::analysis::Thresholds;

/// Within what time of a trap a signal never lets the kernel's sleep end, whatever the phase of the ticks.
///
/// The default is for a kernel of which nothing is known: with 100 ticks a second, a tick may end a sleep at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LivelockThreshold {
    never_up_to: Duration,
}

/// How a thread fares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ThreadState {
    /// It has met no detection for some time.
    #[default]
    Quiet,
    /// It gets past its split locks, each after its punishment.
    Slowed,
    /// It is given windows without detection, and in several of them in a row it did not come to its split lock, as far
    /// as can be told.
    WindowsUnused,
    /// Signals have sent it back to the same instruction several times in a row, or it has been in the handler for
    /// long, because others are before it.
    HeldUp,
    /// They do so for so long, or so soon, that it will not get past while the signals go on.
    Livelocked,
}

/// So many hopeless attempts in a row, over at least this time, are nobody's bad luck.
const HOPELESS_ATTEMPTS: u64 = 20;
const HOPELESS_TIME: Duration = Duration::from_millis(100);

/// Attempts that might have ended well, and did not for so long, are some hundred times the delay that
/// the kernel means to impose.
const LIVELOCK_ATTEMPTS: u64 = 10;
const LIVELOCK_TIME: Duration = Duration::from_secs(1);

/// Fewer windows in a row may be anybody's bad luck.
const UNUSED_WINDOWS: u64 = 3;

/// Fewer interruptions in a row happen to any thread that gets a signal now and then.
const HELD_UP_ATTEMPTS: u64 = 3;

/// A thread's attempts since it last got past a split lock, all of which have failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attempts {
    all: Run,
    /// The last of them, as far as each was given so little time that no other phase of the ticks would
    /// have helped.
    hopeless: Option<Run>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    since_ns: u64,
    until_ns: u64,
    pub(super) count: u64,
}

impl Run {
    pub(super) fn add(run: Option<Self>, since_ns: u64, until_ns: u64) -> Self {
        let run = run.unwrap_or(Self {
            since_ns,
            until_ns,
            count: 0,
        });
        Self {
            until_ns,
            count: run.count + 1,
            ..run
        }
    }

    /// For windows in a row that were not used.
    pub(super) fn state_of_unused_windows(&self) -> ThreadState {
        match self.count {
            UNUSED_WINDOWS.. => ThreadState::WindowsUnused,
            _ => ThreadState::Slowed,
        }
    }

    /// From the first trap to the end of the last attempt.
    pub(super) fn lasting(&self) -> Duration {
        Duration::from_nanos(self.until_ns.saturating_sub(self.since_ns))
    }
}

impl Attempts {
    pub(super) fn add(
        before: Option<Self>,
        since_ns: u64,
        until_ns: u64,
        is_hopeless: bool,
    ) -> Self {
        let hopeless = before.and_then(|before| before.hopeless);
        Self {
            all: Run::add(before.map(|before| before.all), since_ns, until_ns),
            hopeless: is_hopeless.then(|| Run::add(hopeless, since_ns, until_ns)),
        }
    }

    pub(super) fn all(&self) -> &Run {
        &self.all
    }

    pub(super) fn state(&self) -> ThreadState {
        let is_hopeless =
            |run: Run| run.count >= HOPELESS_ATTEMPTS && run.lasting() >= HOPELESS_TIME;
        let for_long = self.all.count >= LIVELOCK_ATTEMPTS && self.all.lasting() >= LIVELOCK_TIME;
        match self.all.count {
            _ if self.hopeless.is_some_and(is_hopeless) || for_long => ThreadState::Livelocked,
            HELD_UP_ATTEMPTS.. => ThreadState::HeldUp,
            _ => ThreadState::Slowed,
        }
    }
}

impl LivelockThreshold {
    /// For a kernel on which a signal that comes within this time never lets a sleep end.
    #[must_use]
    pub fn new(never_up_to: Duration) -> Self {
        Self { never_up_to }
    }

    /// For this machine's kernel, by the model; where not enough is known of it, for the least patient one that it
    /// may be.
    #[must_use]
    pub fn of(facts: &Facts) -> Self {
        let kernels = facts.possible_kernels();
        let limits = kernels.iter().filter_map(Thresholds::of);
        let shortest = limits.map(|limits| limits.never_up_to()).min();
        Self::new(Duration::from_nanos(shortest.unwrap_or_default().0))
    }

    /// An attempt that fails within this time could not have gone well.
    #[must_use]
    pub fn never_up_to(&self) -> Duration {
        self.never_up_to
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    /// So many attempts, evenly over so long, of which the last were hopeless.
    fn state(failed: u64, hopeless: u64, ms: u64) -> ThreadState {
        let at = |n: u64| n * ms * 1_000_000 / failed;
        let attempts = (0..failed).fold(None, |before, n| {
            let is_hopeless = n >= failed - hopeless;
            Some(Attempts::add(before, at(n), at(n + 1), is_hopeless))
        });
        attempts.unwrap().state()
    }

    #[test]
    fn hopeless_attempts_are_a_livelock_soon_and_others_late() {
        assert_eq!(state(100, 100, 99), ThreadState::HeldUp);
        assert_eq!(state(100, 100, 100), ThreadState::Livelocked);
        // Those before do not matter.
        assert_eq!(state(100, 50, 199), ThreadState::HeldUp);
        assert_eq!(state(100, 50, 200), ThreadState::Livelocked);
        assert_eq!(state(100, 0, 999), ThreadState::HeldUp);
        assert_eq!(state(100, 0, 1000), ThreadState::Livelocked);
        assert_eq!(state(19, 19, 999), ThreadState::HeldUp);
        assert_eq!(state(9, 0, 5000), ThreadState::HeldUp);
        assert_eq!(state(2, 2, 5000), ThreadState::Slowed);
    }

    #[test]
    fn what_is_hopeless_depends_on_the_kernel_and_its_ticks() {
        for (release, hz, hopeless_ms) in [
            ("6.1.0-56-cloud-amd64", "250", 12),
            ("6.12.117+deb12-cloud-amd64", "250", 8),
            ("6.12.117", "1000", 9),
            ("6.12.117", "100", 0),
            ("5.15.0", "250", 12),
        ] {
            let config = format!("boot/config-{release}");
            let facts = fixture::facts(&[
                ("proc/sys/kernel/osrelease", release),
                (&config, &format!("CONFIG_HZ={hz}\n")),
            ]);
            let found = LivelockThreshold::of(&facts).never_up_to();
            assert_eq!(
                found,
                Duration::from_millis(hopeless_ms),
                "{release} at {hz} Hz"
            );
        }
        let unknown = LivelockThreshold::of(&fixture::facts(&[("proc/cpuinfo", "")]));
        assert_eq!(unknown, LivelockThreshold::default());
    }
}
