//! Signals that interrupt a thread again and again.

use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use nix::unistd::gettid;

use crate::sys;

const SIGNAL: Signal = Signal::SIGALRM;

/// For as long as the timer is kept.
pub(crate) fn to_this_thread_every(period_us: u32) -> Result<Timer> {
    sys::handle(SIGNAL)?;
    let notify = SigevNotify::SigevThreadId {
        signal: SIGNAL,
        thread_id: gettid().as_raw(),
        si_value: 0,
    };
    let mut timer = Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(notify))?;
    let period = TimeSpec::from_duration(Duration::from_micros(period_us.into()));
    timer.set(Expiration::Interval(period), TimerSetTimeFlags::empty())?;
    Ok(timer)
}
