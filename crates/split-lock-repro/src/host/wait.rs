//! Waiting as a thread in the kernel waits: until a moment, or until a signal is there for it.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use kvm_preemption_timer::MonotonicTime;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::{SfdFlags, SigSet, SignalFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// Waits for signals that the thread blocks. They stay pending, as they do for a thread that
/// the kernel makes sleep: they are for whoever runs the vCPU, or for the program's handlers.
#[derive(Debug)]
pub(super) struct Waiter {
    signals: SignalFd,
    // Not a timeout of poll: those are late by the thread's timer slack.
    timer: TimerFd,
}

/// Why a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    ByTime,
    BySignal,
}

impl Waiter {
    /// For a thread that these signals interrupt.
    pub(super) fn new(mask: SigSet) -> io::Result<Self> {
        Ok(Self {
            signals: SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC)?,
            timer: TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?,
        })
    }

    pub(super) fn is_signal_pending(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut fds, PollTimeout::ZERO)? > 0)
    }

    /// If both are there, the time has come: a thread that runs again after its time looks at the
    /// clock first.
    pub(super) fn wait(&self, until: MonotonicTime) -> io::Result<Woken> {
        let timer = PollFd::new(self.timer.as_fd(), PollFlags::POLLIN);
        let signals = PollFd::new(self.signals.as_fd(), PollFlags::POLLIN);
        self.poll(until, &mut [timer, signals])
    }

    /// Waits whatever signals there are.
    pub(super) fn sleep(&self, until: MonotonicTime) -> io::Result<()> {
        let timer = PollFd::new(self.timer.as_fd(), PollFlags::POLLIN);
        self.poll(until, &mut [timer]).map(drop)
    }

    /// The first of these is the timer's; any other one ends the wait.
    fn poll(&self, until: MonotonicTime, fds: &mut [PollFd<'_>]) -> io::Result<Woken> {
        self.set_timer(until)?;
        loop {
            match poll(fds, PollTimeout::NONE) {
                // A signal of somebody else has been handled.
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            if MonotonicTime::now() >= until {
                return Ok(Woken::ByTime);
            }
            if fds[1..].iter().any(|fd| fd.any() == Some(true)) {
                return Ok(Woken::BySignal);
            }
        }
    }

    fn set_timer(&self, at: MonotonicTime) -> io::Result<()> {
        // A time of zero would switch it off.
        let at = TimeSpec::from_duration(Duration::from_nanos(at.as_nanos().max(1)));
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME;
        Ok(self.timer.set(Expiration::OneShot(at), flags)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use nix::sys::signal::{Signal, raise};

    fn blocked() -> Waiter {
        let mask = SigSet::from(Signal::SIGSTKFLT);
        mask.thread_block().unwrap();
        Waiter::new(mask).unwrap()
    }

    fn send_to_this_thread() {
        raise(Signal::SIGSTKFLT).unwrap();
    }

    #[test]
    fn a_wait_ends_at_its_time_and_not_before() {
        let waiter = blocked();
        let until = MonotonicTime::now() + Duration::from_millis(3);
        assert_eq!(waiter.wait(until).unwrap(), Woken::ByTime);
        assert!(MonotonicTime::now() >= until);
        assert_eq!(waiter.wait(until).unwrap(), Woken::ByTime);
        let until = MonotonicTime::now() + Duration::from_millis(3);
        waiter.sleep(until).unwrap();
        assert!(MonotonicTime::now() >= until);
    }

    #[test]
    fn a_signal_ends_a_wait_and_stays_pending() {
        let waiter = blocked();
        assert!(!waiter.is_signal_pending().unwrap());
        send_to_this_thread();
        let far = MonotonicTime::now() + Duration::from_secs(3600);
        for _ in 0..2 {
            assert!(waiter.is_signal_pending().unwrap());
            assert_eq!(waiter.wait(far).unwrap(), Woken::BySignal);
        }
        let passed = MonotonicTime::now();
        assert_eq!(waiter.wait(passed).unwrap(), Woken::ByTime);
    }
}
