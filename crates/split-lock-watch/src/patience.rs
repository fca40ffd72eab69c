//! When a thread that does not get past an instruction is in a livelock, and not only late.

use std::time::Duration;

use split_lock_model::analysis::Thresholds;
use split_lock_model::time::Nanos;

use split_lock_host::Facts;

/// The kernel's own rules, as far as they decide whether an interrupted sleep could have ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    hopeless_up_to: Duration,
}

/// So many hopeless attempts in a row, over at least [`A_WHILE`], are nobody's bad luck.
const MANY: u64 = 20;
const A_WHILE: Duration = Duration::from_millis(100);

/// Attempts that might have ended well, and did not for so long, are some hundred times the delay that
/// the kernel means to impose.
const LONG: Duration = Duration::from_secs(1);
const SEVERAL: u64 = 10;

/// Fewer interruptions in a row happen to any thread that gets a signal now and then.
const A_FEW: u64 = 3;

/// A thread's attempts since it last got past a split lock, all of which have failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attempts {
    all: Run,
    /// The last of them, as far as each was given so little time that no other phase of the ticks would
    /// have helped.
    hopeless: Option<Run>,
}

/// Attempts in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    since_ns: u64,
    until_ns: u64,
    pub(super) count: u64,
}

impl Run {
    fn add(run: Option<Self>, since_ns: u64, until_ns: u64) -> Self {
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

    /// From the first trap to the end of the last attempt.
    pub(super) fn lasting(&self) -> Duration {
        Duration::from_nanos(self.until_ns.saturating_sub(self.since_ns))
    }
}

impl Attempts {
    /// With one more.
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

    pub(super) fn judge(&self) -> Judgement {
        let without_hope = self
            .hopeless
            .is_some_and(|run| run.count >= MANY && run.lasting() >= A_WHILE);
        let for_long = self.all.count >= SEVERAL && self.all.lasting() >= LONG;
        match self.all.count {
            _ if without_hope || for_long => Judgement::Livelock,
            A_FEW.. => Judgement::HeldUp,
            _ => Judgement::Nothing,
        }
    }
}

/// What attempts amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    Nothing,
    HeldUp,
    Livelock,
}

impl Patience {
    /// For a kernel on which a signal that comes within this time never lets a sleep end.
    #[must_use]
    pub fn new(hopeless_up_to: Duration) -> Self {
        Self { hopeless_up_to }
    }

    /// For this machine's kernel, by the model; where not enough is known of it, for the least patient one that it
    /// may be.
    #[must_use]
    pub fn of(facts: &Facts) -> Self {
        let limits = facts.possible_kernels();
        let limits = limits.iter().filter_map(Thresholds::of);
        let shortest = limits.map(|limits| limits.never_up_to()).min();
        let hopeless = |Nanos(ns)| Duration::from_nanos(ns);
        shortest.map_or_else(Self::default, |shortest| Self::new(hopeless(shortest)))
    }

    /// An attempt that fails within this time could not have gone well.
    #[must_use]
    pub fn hopeless_up_to(&self) -> Duration {
        self.hopeless_up_to
    }
}

impl Default for Patience {
    /// For a kernel of which nothing is known: with 100 ticks a second, a tick may end a sleep at once.
    fn default() -> Self {
        Self::new(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    /// So many attempts, evenly over so long, of which the last were hopeless.
    fn judge(failed: u64, hopeless: u64, ms: u64) -> Judgement {
        let at = |n: u64| n * ms * 1_000_000 / failed;
        let attempts = (0..failed).fold(None, |before, n| {
            let is_hopeless = n >= failed - hopeless;
            Some(Attempts::add(before, at(n), at(n + 1), is_hopeless))
        });
        attempts.unwrap().judge()
    }

    #[test]
    fn hopeless_attempts_are_a_livelock_soon_and_others_late() {
        assert_eq!(judge(100, 100, 99), Judgement::HeldUp);
        assert_eq!(judge(100, 100, 100), Judgement::Livelock);
        // Those before do not matter.
        assert_eq!(judge(100, 50, 199), Judgement::HeldUp);
        assert_eq!(judge(100, 50, 200), Judgement::Livelock);
        assert_eq!(judge(100, 0, 999), Judgement::HeldUp);
        assert_eq!(judge(100, 0, 1000), Judgement::Livelock);
        assert_eq!(judge(19, 19, 999), Judgement::HeldUp);
        assert_eq!(judge(9, 0, 5000), Judgement::HeldUp);
        assert_eq!(judge(2, 2, 5000), Judgement::Nothing);
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
            let found = Patience::of(&facts).hopeless_up_to();
            assert_eq!(
                found,
                Duration::from_millis(hopeless_ms),
                "{release} at {hz} Hz"
            );
        }
        let unknown = Patience::of(&fixture::facts(&[("proc/cpuinfo", "")]));
        assert_eq!(unknown, Patience::default());
    }
}
