//! Moments within a tick, and a timer that kicks a thread.

use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigEvent, SigevNotify};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use nix::unistd::gettid;

use crate::sys::KICK;

/// This clock goes on at ticks only, to the moment of the tick.
const LAST_TICK: ClockId = ClockId::CLOCK_MONOTONIC_COARSE;

pub(crate) fn length() -> nix::Result<Duration> {
    LAST_TICK.res().map(Duration::from)
}

/// Sleeps until the first of `of` evenly spread moments of a tick, or the second, and so on.
///
/// Where exactly the thread wakes up does not matter: the trace says where it was.
pub(crate) fn sleep_until_phase(phase: u32, of: u32) -> nix::Result<()> {
    let tick = length()?;
    let last = Duration::from(LAST_TICK.now()?);
    let now = Duration::from(ClockId::CLOCK_MONOTONIC.now()?);
    let since = now.saturating_sub(last).as_nanos() / tick.as_nanos();
    // In the tick after the next, so that there is time to fall asleep.
    let ticks = u32::try_from(since).unwrap_or(u32::MAX) + 2;
    let target = last + tick * ticks + tick * phase / of;
    thread::sleep(target.saturating_sub(now));
    Ok(())
}

/// Sleeps until no window can be open any more: each ends with its third tick, and its work then waits for the CPU.
pub(crate) fn settle() -> nix::Result<()> {
    thread::sleep(length()? * 8);
    Ok(())
}

/// A timer that kicks the thread that made it.
#[derive(Debug)]
pub(crate) struct KickTimer(Timer);

impl KickTimer {
    pub(crate) fn new(clock: ClockId) -> nix::Result<Self> {
        let event = SigevNotify::SigevThreadId {
            signal: KICK,
            thread_id: gettid().as_raw(),
            si_value: 0,
        };
        Timer::new(clock, SigEvent::new(event)).map(Self)
    }

    /// The first kick after `first`, then one after each `every`; zero is none.
    pub(crate) fn set(&mut self, first: Duration, every: Duration) -> nix::Result<()> {
        let times = Expiration::IntervalDelayed(first.into(), every.into());
        self.0.set(times, TimerSetTimeFlags::empty())
    }
}
