//! What stands behind a vCPU that can be forced out: timers, kicks and the signal.

use std::os::fd::BorrowedFd;

use crate::deadline_timer::{DeadlineTimer, Interruption};
use crate::kicker::{KickTarget, Kicker};
use crate::mechanism::{self, ActiveMechanism};
use crate::reservation::SignalReservation;
use crate::sys::{Clock, Timer};
use crate::{Config, Deadline, Error, Signal};

/// The order of the fields is the order of teardown: no more signals from timers, no more from
/// kickers, consume what is pending and restore the masks, and only then is the signal free again.
#[derive(Debug)]
pub(crate) struct Preemption {
    timers: Timers,
    kicks: KickTarget,
    mechanism: Box<dyn ActiveMechanism>,
    _reservation: SignalReservation,
    deadline_timer: DeadlineTimer,
}

impl Preemption {
    /// Binds `vcpu` to the calling thread.
    pub(crate) fn new(vcpu: BorrowedFd<'_>, config: Config) -> Result<Self, Error> {
        let signal = config.signal;
        let reservation = SignalReservation::new(signal)?;
        // A descriptor of our own: the masks are restored on this vCPU, whatever the caller does
        // with theirs.
        let vcpu = vcpu.try_clone_to_owned().map_err(|source| Error::System {
            call: "fcntl(F_DUPFD_CLOEXEC)",
            target: "the vCPU",
            source,
        })?;
        let mechanism = mechanism::activate(config.mechanism, vcpu, signal)?;
        let kicks = KickTarget::new(signal);
        Ok(Preemption {
            timers: Timers::new(signal)?,
            kicks,
            mechanism,
            _reservation: reservation,
            deadline_timer: DeadlineTimer::new(),
        })
    }

    pub(crate) fn kicker(&self) -> Kicker {
        self.kicks.kicker()
    }

    /// Sees to it that a run is interrupted at `deadline`. Costs nothing if it already is so.
    #[inline]
    pub(crate) fn arm(&mut self, deadline: Deadline) -> Result<(), Error> {
        let timers = &mut self.timers;
        self.deadline_timer
            .arm(deadline, |before| timers.set(before, deadline))
    }

    /// Finds out what an interrupted run was interrupted by.
    pub(crate) fn interrupted(&mut self, deadline: Deadline) -> Interruption {
        self.deadline_timer.interrupted(
            || self.mechanism.take_signal(),
            || self.kicks.take(),
            || deadline.overshoot(),
        )
    }

    pub(crate) fn mechanism(&self) -> &dyn ActiveMechanism {
        &*self.mechanism
    }
}

/// One timer for each clock that has been asked for.
#[derive(Debug)]
struct Timers {
    signal: Signal,
    monotonic: Timer,
    thread_cpu: Option<Timer>,
}

impl Timers {
    fn new(signal: Signal) -> Result<Self, Error> {
        Ok(Timers {
            signal,
            monotonic: Timer::new(Clock::Monotonic, signal)?,
            thread_cpu: None,
        })
    }

    /// Makes `deadline` the only one that a signal will be sent for.
    fn set(&mut self, before: Deadline, deadline: Deadline) -> Result<(), Error> {
        let clock_before = before.timer().map(|(clock, _)| clock);
        let timer = deadline.timer();
        if let Some(clock) = clock_before.filter(|&clock| timer.is_none_or(|(c, _)| c != clock)) {
            self.on(clock)?.disarm()?;
        }
        timer.map_or(Ok(()), |(clock, at_ns)| self.on(clock)?.arm(at_ns))
    }

    fn on(&mut self, clock: Clock) -> Result<&Timer, Error> {
        match (clock, &mut self.thread_cpu) {
            (Clock::Monotonic, _) => Ok(&self.monotonic),
            (Clock::ThreadCpu, Some(timer)) => Ok(timer),
            (Clock::ThreadCpu, none) => Ok(none.insert(Timer::new(clock, self.signal)?)),
        }
    }
}
