//! What a clock says, and a timer on one that kicks a thread.

use std::time::Duration;

use nix::sys::signal::{SigEvent, SigevNotify};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use nix::unistd::gettid;

use crate::sys::KICK;

pub(crate) fn monotonic_ns() -> nix::Result<u64> {
    Ok(Duration::from(ClockId::CLOCK_MONOTONIC.now()?).as_nanos() as u64)
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

    /// The first kick after `first_us`, then one every `every_us`; 0 is none.
    pub(crate) fn set(&mut self, first_us: u64, every_us: u64) -> nix::Result<()> {
        let [first, every] = [first_us, every_us].map(Duration::from_micros);
        let times = Expiration::IntervalDelayed(first.into(), every.into());
        self.0.set(times, TimerSetTimeFlags::empty())
    }
}
