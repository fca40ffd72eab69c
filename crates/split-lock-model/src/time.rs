//! Time as the kernel counts it: nanoseconds of the machine, ticks of the kernel.
//!
//! Everything is an integer. A tick of a 300 Hz kernel is not a whole number of nanoseconds, so no
//! tick length is ever added up: [`TickClock`] places tick `k` at `first + floor(k * 1e9 / HZ)`,
//! which never drifts and repeats exactly (every 3 ticks at 300 Hz, every tick at the others).

use std::fmt;
use std::time::Duration;

use serde::Serialize;

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// A length of time, or a moment since the start of a simulation, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Nanos(pub u64);

impl Nanos {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// Later than anything that happens: "no such event".
    pub const NEVER: Self = Self(u64::MAX);
    /// The longest time the model computes with: 30 days. Longer ones would overflow the tick
    /// arithmetic, and say nothing that a shorter run does not.
    pub const LONGEST: Self = Self(30 * 24 * 3600 * NANOS_PER_SEC);

    /// This many microseconds.
    #[must_use]
    pub const fn from_micros(us: u64) -> Self {
        Self(us.saturating_mul(1_000))
    }

    /// This many milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// This many seconds.
    #[must_use]
    pub const fn from_secs(s: u64) -> Self {
        Self(s.saturating_mul(NANOS_PER_SEC))
    }

    /// In milliseconds, for printing only: the model itself never computes in floating point.
    #[must_use]
    pub fn as_millis_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The sum, or [`Nanos::NEVER`] where it would overflow.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The time from `earlier` to here; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

impl From<Duration> for Nanos {
    /// At most [`Nanos::NEVER`].
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Nanos {
    /// Written with the largest unit that leaves at most three digits after the point.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = match self.0 {
            0..1_000 => return write!(f, "{}ns", self.0),
            1_000..1_000_000 => (1_000, "us"),
            1_000_000..NANOS_PER_SEC => (1_000_000, "ms"),
            _ => (NANOS_PER_SEC, "s"),
        };
        let thousandths = u128::from(self.0) * 1000 / u128::from(unit);
        let (whole, rest) = (thousandths / 1000, thousandths % 1000);
        let digits = format!("{rest:03}");
        match digits.trim_end_matches('0') {
            "" => write!(f, "{whole}{name}"),
            fraction => write!(f, "{whole}.{fraction}{name}"),
        }
    }
}

/// A count of kernel ticks: a moment (ticks since the start) or a length, as in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Jiffies(pub u64);

impl Jiffies {
    /// The sum.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The ticks from `earlier` to here; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

/// A tick rate that an x86 kernel can be built with, in ticks per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Hz(u32);

/// A tick rate that no x86 kernel offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hz: no x86 kernel ticks {0} times a second; choose 100, 250, 300 or 1000")]
pub struct UnknownHz(pub u32);

impl Hz {
    /// 100 ticks a second.
    pub const HZ_100: Self = Self(100);
    /// 250 ticks a second, the configuration's default.
    pub const HZ_250: Self = Self(250);
    /// 300 ticks a second.
    pub const HZ_300: Self = Self(300);
    /// 1000 ticks a second.
    pub const HZ_1000: Self = Self(1000);
    /// Every tick rate an x86 kernel can be built with.
    pub const ALL: [Self; 4] = [Self::HZ_100, Self::HZ_250, Self::HZ_300, Self::HZ_1000];

    /// Checks that a kernel offers this rate.
    ///
    /// # Errors
    /// [`UnknownHz`] for any rate other than 100, 250, 300 and 1000.
    pub fn new(ticks_per_second: u32) -> Result<Self, UnknownHz> {
        let hz = Self(ticks_per_second);
        if Self::ALL.contains(&hz) {
            Ok(hz)
        } else {
            Err(UnknownHz(ticks_per_second))
        }
    }

    /// Ticks per second.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// `ms` milliseconds as the kernel's timeouts count them: whole ticks, rounded up.
    #[must_use]
    pub const fn ticks_for_millis(self, ms: u64) -> Jiffies {
        Jiffies((ms * self.0 as u64).div_ceil(1000))
    }

    /// The shortest that `ticks` successive tick intervals can be, in whole nanoseconds.
    #[must_use]
    pub const fn shortest_span(self, ticks: Jiffies) -> Nanos {
        Nanos(ticks.0 * NANOS_PER_SEC / self.0 as u64)
    }

    /// The longest that `ticks` successive tick intervals can be, in whole nanoseconds.
    #[must_use]
    pub const fn longest_span(self, ticks: Jiffies) -> Nanos {
        Nanos((ticks.0 * NANOS_PER_SEC).div_ceil(self.0 as u64))
    }

    /// After this time the pattern of ticks repeats to the nanosecond.
    #[must_use]
    pub const fn pattern(self) -> Nanos {
        let (mut a, mut b) = (NANOS_PER_SEC, self.0 as u64);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        // HZ / gcd ticks, each 1e9 / HZ long.
        Nanos(NANOS_PER_SEC / a)
    }
}

impl fmt::Display for Hz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// When the ticks of a machine happen.
///
/// ```
/// use split_lock_model::time::{Hz, Jiffies, Nanos, TickClock};
///
/// let clock = TickClock::new(Hz::HZ_250, Nanos::from_millis(1));
/// let before = clock.jiffies_at(Nanos(999_999));
/// assert_eq!(clock.jiffies_at(Nanos::from_millis(1)), before.plus(Jiffies(1)));
/// assert_eq!(clock.time_of(before.plus(Jiffies(2))), Nanos::from_millis(5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TickClock {
    hz: Hz,
    /// How long before the start tick 0 happened: less than, or exactly, one pattern of ticks.
    lead: u64,
}

impl TickClock {
    /// A clock with a tick at `phase`, and its pattern of ticks before and after that moment.
    #[must_use]
    pub const fn new(hz: Hz, phase: Nanos) -> Self {
        let pattern = hz.pattern().0;
        Self {
            hz,
            lead: pattern - phase.0 % pattern,
        }
    }

    /// The tick rate.
    #[must_use]
    pub const fn hz(self) -> Hz {
        self.hz
    }

    /// The count of ticks at this moment, a tick at exactly this moment included.
    #[must_use]
    pub const fn jiffies_at(self, now: Nanos) -> Jiffies {
        // The largest k with floor(k * 1e9 / HZ) <= the time since tick 0.
        Jiffies(((now.0 + self.lead + 1) * self.hz.0 as u64 - 1) / NANOS_PER_SEC)
    }

    /// The moment at which the count of ticks becomes `tick`; zero if that was before the start.
    #[must_use]
    pub const fn time_of(self, tick: Jiffies) -> Nanos {
        Nanos((tick.0 * NANOS_PER_SEC / self.hz.0 as u64).saturating_sub(self.lead))
    }

    /// The first tick at or after this moment.
    #[must_use]
    pub const fn tick_from(self, now: Nanos) -> Nanos {
        let last = self.jiffies_at(now);
        if last.0 * NANOS_PER_SEC / self.hz.0 as u64 == now.0 + self.lead {
            now
        } else {
            self.time_of(last.plus(Jiffies(1)))
        }
    }

    /// How far into the repeating pattern of ticks this moment lies: two moments with the same
    /// answer see the same future ticks.
    #[must_use]
    pub const fn phase_at(self, now: Nanos) -> Nanos {
        Nanos((now.0 + self.lead) % self.hz.pattern().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tick_is_counted_at_its_own_moment() {
        for hz in Hz::ALL {
            for phase in [0, 1, 777_777] {
                let clock = TickClock::new(hz, Nanos(phase));
                let start = clock.jiffies_at(Nanos::ZERO).0;
                for k in start + 1..start + 2_000 {
                    let at = clock.time_of(Jiffies(k));
                    assert_eq!(clock.jiffies_at(at), Jiffies(k));
                    assert_eq!(clock.jiffies_at(Nanos(at.0 + 1)), Jiffies(k));
                    assert_eq!(clock.jiffies_at(Nanos(at.0 - 1)), Jiffies(k - 1));
                    assert_eq!(clock.tick_from(Nanos(at.0 - 1)), at);
                    assert_eq!(clock.tick_from(at), at);
                }
            }
        }
    }

    #[test]
    fn three_ticks_of_300_hz_are_ten_milliseconds_forever() {
        let clock = TickClock::new(Hz::HZ_300, Nanos(5));
        assert_eq!(Hz::HZ_300.pattern(), Nanos::from_millis(10));
        assert_eq!(
            clock.jiffies_at(Nanos::from_secs(10_000)),
            Jiffies(3_000_002)
        );
        assert_eq!(clock.time_of(Jiffies(3_000_003)), Nanos(10_000_000_000_005));
    }

    #[test]
    fn spans_bracket_every_real_interval() {
        let clock = TickClock::new(Hz::HZ_300, Nanos::ZERO);
        for n in 1..20 {
            let spans = (3..12).map(|k| {
                clock
                    .time_of(Jiffies(k + n))
                    .since(clock.time_of(Jiffies(k)))
            });
            assert_eq!(
                spans.clone().min(),
                Some(Hz::HZ_300.shortest_span(Jiffies(n)))
            );
            assert_eq!(spans.max(), Some(Hz::HZ_300.longest_span(Jiffies(n))));
        }
    }

    #[test]
    fn the_longest_time_does_not_overflow() {
        for hz in Hz::ALL {
            let clock = TickClock::new(hz, Nanos::ZERO);
            let k = clock.jiffies_at(Nanos::LONGEST);
            assert_eq!(
                clock.time_of(k),
                Nanos::LONGEST,
                "a tick falls there at every rate"
            );
        }
    }

    #[test]
    fn durations_print_briefly() {
        for (ns, text) in [
            (0, "0ns"),
            (999, "999ns"),
            (1_500, "1.5us"),
            (13_333_333, "13.333ms"),
            (2_000_000_000, "2s"),
        ] {
            assert_eq!(Nanos(ns).to_string(), text);
        }
    }
}
