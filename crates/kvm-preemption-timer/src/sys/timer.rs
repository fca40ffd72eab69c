//! Clocks and POSIX timers.

#![expect(unsafe_code, reason = "POSIX timers have no safe interface in std")]

use std::mem::MaybeUninit;
use std::ptr;

use super::signal::{Process, current_tid};
use crate::{Error, Signal};

/// A clock that a deadline can lie on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    Monotonic,
    ThreadCpu,
}

impl Clock {
    const fn id(self) -> libc::clockid_t {
        match self {
            Clock::Monotonic => libc::CLOCK_MONOTONIC,
            Clock::ThreadCpu => libc::CLOCK_THREAD_CPUTIME_ID,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Clock::Monotonic => "CLOCK_MONOTONIC",
            Clock::ThreadCpu => "CLOCK_THREAD_CPUTIME_ID",
        }
    }
}

pub(crate) fn clock_now_ns(clock: Clock) -> u64 {
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the kernel writes one timespec to a place that is large enough for it.
    let result = unsafe { libc::clock_gettime(clock.id(), now.as_mut_ptr()) };
    assert_eq!(result, 0, "every Linux kernel has {}", clock.name());
    // SAFETY: the call succeeded, so it has filled the timespec.
    let now = unsafe { now.assume_init() };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A POSIX timer that signals the thread that made it. Dropping it deletes it; a signal that it
/// has already sent stays pending.
#[derive(Debug)]
pub(crate) struct Timer {
    id: libc::timer_t,
    clock: Clock,
    /// A process that is forked off has no timers; another one of its own may get the same id.
    process: Process,
}

impl Timer {
    pub(crate) fn new(clock: Clock, signal: Signal) -> Result<Self, Error> {
        // SAFETY: sigevent is plain data, for which all zeroes is a value.
        let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal.number();
        event.sigev_notify_thread_id = current_tid().0;
        let mut id: libc::timer_t = ptr::null_mut();
        // SAFETY: both pointers are to live values of the right types; the kernel copies the event.
        let result = unsafe { libc::timer_create(clock.id(), &raw mut event, &raw mut id) };
        match Error::check(result, "timer_create", clock.name()) {
            Ok(()) => Ok(Timer {
                id,
                clock,
                process: Process::current(),
            }),
            Err(Error::System { source, .. }) if source.raw_os_error() == Some(libc::EAGAIN) => {
                let clock = clock.name();
                Err(Error::TimerLimit { clock })
            }
            Err(other) => Err(other),
        }
    }

    /// Sends the signal once when the clock has reached `at_ns`: at once if it has already.
    pub(crate) fn arm(&self, at_ns: u64) -> Result<(), Error> {
        // An expiry of zero would disarm the timer.
        self.set(at_ns.max(1))
    }

    pub(crate) fn disarm(&self) -> Result<(), Error> {
        self.set(0)
    }

    fn set(&self, at_ns: u64) -> Result<(), Error> {
        if !self.process.is_current() {
            return Err(Error::Forked);
        }
        let expiry = libc::itimerspec {
            it_interval: timespec(0),
            it_value: timespec(at_ns),
        };
        let flags = libc::TIMER_ABSTIME;
        // SAFETY: the timer exists until drop, the kernel copies `expiry`, and asks for no old value.
        let result =
            unsafe { libc::timer_settime(self.id, flags, &raw const expiry, ptr::null_mut()) };
        Error::check(result, "timer_settime", self.clock.name())
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if self.process.is_current() {
            // SAFETY: the timer was created by us and is deleted only here.
            unsafe { libc::timer_delete(self.id) };
        }
    }
}

fn timespec(ns: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (ns / 1_000_000_000) as _,
        tv_nsec: (ns % 1_000_000_000) as libc::c_long,
    }
}
