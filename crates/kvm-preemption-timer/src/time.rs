//! Points in time on the two clocks that a budget can be measured with, and deadlines on them.

use std::marker::PhantomData;
use std::ops::Add;
use std::time::Duration;

use crate::sys::{Clock, clock_now_ns};

/// A point in time on CLOCK_MONOTONIC, in nanoseconds since an arbitrary start.
///
/// Unlike [`std::time::Instant`] it can be handed to the kernel as an absolute timer expiry.
///
/// ```
/// use kvm_preemption_timer::MonotonicTime;
/// use std::time::Duration;
///
/// let deadline = MonotonicTime::now() + Duration::from_millis(1);
/// assert!(deadline.saturating_since(MonotonicTime::now()) <= Duration::from_millis(1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonotonicTime(u64);

impl MonotonicTime {
    /// Reads the clock. No system call where the kernel offers the vDSO.
    #[must_use]
    pub fn now() -> Self {
        MonotonicTime(clock_now_ns(Clock::Monotonic))
    }

    /// The point `nanos` nanoseconds after the clock's start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        MonotonicTime(nanos)
    }

    /// Nanoseconds since the clock's start.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`; zero if `earlier` is the later one.
    #[must_use]
    pub const fn saturating_since(self, earlier: MonotonicTime) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for MonotonicTime {
    type Output = Self;

    /// Stops at the end of the clock (584 years) instead of overflowing.
    fn add(self, duration: Duration) -> Self {
        MonotonicTime(self.0.saturating_add(saturating_nanos(duration)))
    }
}

/// A point in CPU time of the calling thread (CLOCK_THREAD_CPUTIME_ID), in nanoseconds.
///
/// The clock stands still while the thread sleeps, also while the kernel makes it sleep inside
/// KVM_RUN. It means nothing to another thread, so it cannot be sent to one:
///
/// ```compile_fail
/// let here = kvm_preemption_timer::ThreadCpuTime::now();
/// std::thread::spawn(move || drop(here));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadCpuTime(u64, PhantomData<*const ()>);

impl ThreadCpuTime {
    /// Reads the calling thread's clock: one system call.
    #[must_use]
    pub fn now() -> Self {
        ThreadCpuTime(clock_now_ns(Clock::ThreadCpu), PhantomData)
    }

    /// CPU time in nanoseconds since the thread's start.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The point `nanos` nanoseconds after the clock's start, for the calling thread.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        ThreadCpuTime(nanos, PhantomData)
    }

    /// CPU time from `earlier` to `self`; zero if `earlier` is the later one.
    #[must_use]
    pub const fn saturating_since(self, earlier: ThreadCpuTime) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for ThreadCpuTime {
    type Output = Self;

    /// Stops at the end of the clock (584 years) instead of overflowing.
    fn add(self, duration: Duration) -> Self {
        let nanos = self.0.saturating_add(saturating_nanos(duration));
        ThreadCpuTime(nanos, PhantomData)
    }
}

/// When a run has to end at the latest.
///
/// Deadlines are absolute, so that going back into the guest after an exit neither prolongs the
/// budget nor costs anything. Since one of them may belong to a thread, none can be sent to another:
/// send a [`MonotonicTime`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Deadline {
    /// At a point on CLOCK_MONOTONIC.
    Wall(MonotonicTime),
    /// When the vCPU's thread has used this much CPU time. The kernel looks at such timers once a
    /// tick, so expect to be up to a few milliseconds late (2 to 3 ms at HZ=250).
    ThreadCpu(ThreadCpuTime),
    /// Not at all: only a guest exit or a [`Kicker`](crate::Kicker) ends the run.
    Never,
}

impl Deadline {
    /// `budget` of wall time from now on.
    #[must_use]
    pub fn after(budget: Duration) -> Self {
        Deadline::Wall(MonotonicTime::now() + budget)
    }

    /// `budget` of the calling thread's CPU time from now on.
    #[must_use]
    pub fn after_cpu(budget: Duration) -> Self {
        Deadline::ThreadCpu(ThreadCpuTime::now() + budget)
    }

    /// How far the deadline's own clock is past it; `None` while it lies ahead.
    pub(crate) fn overshoot(self) -> Option<Duration> {
        let (clock, at_ns) = self.timer()?;
        clock_now_ns(clock)
            .checked_sub(at_ns)
            .map(Duration::from_nanos)
    }

    /// The clock and the expiry of the timer that enforces this deadline, if it needs one.
    pub(crate) const fn timer(self) -> Option<(Clock, u64)> {
        match self {
            Deadline::Wall(at) => Some((Clock::Monotonic, at.0)),
            Deadline::ThreadCpu(at) => Some((Clock::ThreadCpu, at.0)),
            Deadline::Never => None,
        }
    }

    pub(crate) fn saturating_add(self, duration: Duration) -> Self {
        match self {
            Deadline::Wall(at) => Deadline::Wall(at + duration),
            Deadline::ThreadCpu(at) => Deadline::ThreadCpu(at + duration),
            Deadline::Never => Deadline::Never,
        }
    }
}

impl From<MonotonicTime> for Deadline {
    fn from(at: MonotonicTime) -> Self {
        Deadline::Wall(at)
    }
}

impl From<ThreadCpuTime> for Deadline {
    fn from(at: ThreadCpuTime) -> Self {
        Deadline::ThreadCpu(at)
    }
}

fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_time_is_not_passed() {
        assert_eq!(
            MonotonicTime::now() + Duration::MAX,
            MonotonicTime(u64::MAX)
        );
        assert_eq!((ThreadCpuTime::now() + Duration::MAX).as_nanos(), u64::MAX);
    }

    #[test]
    fn no_time_passes_backwards() {
        let earlier = ThreadCpuTime::now();
        let later = earlier + Duration::from_nanos(5);
        assert_eq!(later.saturating_since(earlier), Duration::from_nanos(5));
        assert_eq!(earlier.saturating_since(later), Duration::ZERO);
    }

    #[test]
    fn a_deadline_is_overshot_only_once_it_has_passed() {
        assert_eq!(Deadline::after(Duration::from_secs(3600)).overshoot(), None);
        assert_eq!(
            Deadline::after_cpu(Duration::from_secs(3600)).overshoot(),
            None
        );
        assert_eq!(Deadline::Never.overshoot(), None);
        let passed = MonotonicTime::now();
        let overshoot = Deadline::Wall(passed).overshoot().unwrap();
        assert!(overshoot <= MonotonicTime::now().saturating_since(passed));
    }
}
