//! What stands behind a vCPU that can be forced out: timers, kicks and the signal.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::kicker::{KickTarget, Kicker};
use crate::mechanism::{self, ActiveMechanism};
use crate::reservation::SignalReservation;
use crate::sys::{self, Clock, Timer};
use crate::timer_state::{InterruptSources, Interruption, TimerState};
use crate::{Config, Deadline, Error};

/// The order of the fields is the order of teardown: no more signals from timers, no more from
/// kickers, consume what is pending and restore the masks, and only then is the signal free again.
#[derive(Debug)]
pub(crate) struct Preemption {
    timers: Timers,
    kicks: KickTarget,
    mechanism: Box<dyn ActiveMechanism>,
    _reservation: SignalReservation,
    timer_state: TimerState,
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
            timers: Timers::new(config)?,
            kicks,
            mechanism,
            _reservation: reservation,
            timer_state: TimerState::new(),
        })
    }

    pub(crate) fn kicker(&self) -> Kicker {
        self.kicks.kicker()
    }

    /// Sees to it that a run is interrupted at `deadline`. Costs nothing if it already is so.
    #[inline]
    pub(crate) fn arm(&mut self, deadline: Deadline) -> Result<(), Error> {
        if self.timer_state.must_arm(deadline) {
            let before = self.timer_state.armed();
            // If setting it fails half-way, the timer is in no known state.
            self.timer_state.set_armed(Deadline::Never);
            self.timers.set(before, deadline)?;
            self.timer_state.set_armed(deadline);
        }
        Ok(())
    }

    /// Finds out what an interrupted run was interrupted by.
    pub(crate) fn interrupted(&mut self, deadline: Deadline) -> Interruption {
        self.timer_state.interrupted(&mut LiveSources {
            mechanism: &mut *self.mechanism,
            kicks: &self.kicks,
            deadline,
        })
    }

    pub(crate) fn mechanism(&self) -> &dyn ActiveMechanism {
        &*self.mechanism
    }
}

/// What has really interrupted a run.
struct LiveSources<'a> {
    mechanism: &'a mut dyn ActiveMechanism,
    kicks: &'a KickTarget,
    deadline: Deadline,
}

impl InterruptSources for LiveSources<'_> {
    fn take_signal(&mut self) -> bool {
        self.mechanism.take_signal()
    }

    fn take_kick(&mut self) -> bool {
        self.kicks.take()
    }

    fn overshoot(&mut self) -> Option<Duration> {
        self.deadline.overshoot()
    }
}

/// One timer for each clock that has been asked for.
#[derive(Debug)]
struct Timers {
    config: Config,
    monotonic: Timer,
    thread_cpu: Option<Timer>,
}

impl Timers {
    fn new(config: Config) -> Result<Self, Error> {
        Ok(Timers {
            config,
            monotonic: Self::timer(Clock::Monotonic, config)?,
            thread_cpu: None,
        })
    }

    fn timer(clock: Clock, config: Config) -> Result<Timer, Error> {
        Timer::new(clock, config.signal, sys::current_tid())
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
            (Clock::ThreadCpu, none) => Ok(none.insert(Self::timer(clock, self.config)?)),
        }
    }
}
