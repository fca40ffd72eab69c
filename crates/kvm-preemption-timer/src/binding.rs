//! A thread bound to a vCPU that it can be forced out of.

use std::os::fd::BorrowedFd;

use crate::deadline_timer::{self, DeadlineTimer};
use crate::delivery::SignalDelivery;
use crate::kicker::{KickTarget, Kicker};
use crate::reservation::SignalReservation;
use crate::sys::{Clock, Timer};
use crate::{Config, Deadline, Error, Expiry, Interruption, Signal};

/// Binds the calling thread to a vCPU, whose runs on this thread then end at a deadline.
///
/// It does not hold the vCPU, which stays where the VMM has it, and it cannot be sent to another
/// thread: the timer signals the one that made it. A VMM with KVM bindings of its own calls
/// [`arm`](Self::arm) before each KVM_RUN and [`interrupted`](Self::interrupted) after each that fails
/// with EINTR or EAGAIN; on `kvm_ioctls::VcpuFd`, `run_until` (feature `kvm-ioctls`) does both.
///
/// ```no_run
/// # use std::os::fd::BorrowedFd;
/// # use kvm_preemption_timer::Error;
/// use kvm_preemption_timer::{Deadline, Interruption, VcpuBinding};
/// use std::time::Duration;
///
/// # fn kvm_run(_vcpu: BorrowedFd<'_>) -> std::io::Result<()> { Ok(()) }
/// # fn handle_exit() {}
/// # fn example(vcpu: BorrowedFd<'_>) -> Result<(), Box<dyn std::error::Error>> {
/// let mut binding = VcpuBinding::new(vcpu)?;
/// let mut deadline = Deadline::after(Duration::from_millis(1));
/// loop {
///     binding.arm(deadline)?;
///     match kvm_run(vcpu) {
///         Ok(()) => handle_exit(),
///         Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => {
///             match binding.interrupted() {
///                 Interruption::Expired(_) => deadline = Deadline::after(Duration::from_millis(1)),
///                 Interruption::Kicked(_) => break,
///                 _ => {} // Somebody else's: the VMM looks at its own flags.
///             }
///         }
///         Err(error) => return Err(error.into()),
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// # What is the VMM's
/// - Its signals interrupt a run as they would without the binding.
/// - `kvm_run.immediate_exit`: this crate has bit 7 of it and leaves the others alone. Any value but
///   zero can be written at any time; zero, on the vCPU's thread and before [`arm`](Self::arm), which
///   puts back what this crate needs there.
/// - Its mask in KVM (KVM_SET_SIGNAL_MASK): see [`Config::kvm_mask`].
///
/// # The end
/// Dropping it disarms the timer, consumes what is pending, and takes back what was changed: the
/// thread's mask, KVM's, and the handler, if it is still this crate's. In a process that was forked
/// off, it touches neither the parent's vCPU nor timers.
///
/// ```compile_fail
/// fn send(binding: kvm_preemption_timer::VcpuBinding) {
///     std::thread::spawn(move || drop(binding));
/// }
/// ```
#[derive(Debug)]
pub struct VcpuBinding {
    // The order of the fields is the order of teardown: no more signals from timers, no more from
    // kickers, consume what is pending and restore what was, and only then is the signal free again.
    timers: Timers,
    kicks: KickTarget,
    delivery: SignalDelivery,
    _reservation: SignalReservation,
    deadline_timer: DeadlineTimer,
    /// Of the latest run.
    deadline: Deadline,
    #[cfg(feature = "kvm-ioctls")]
    vcpu: std::os::fd::RawFd,
}

impl VcpuBinding {
    /// Binds a vCPU to the calling thread, with the default [`Config`].
    ///
    /// # Errors
    /// As [`VcpuBinding::with_config`].
    pub fn new(vcpu: BorrowedFd<'_>) -> Result<Self, Error> {
        Self::with_config(vcpu, Config::default())
    }

    /// Binds a vCPU to the calling thread.
    ///
    /// # Errors
    /// [`Error::SignalTaken`], [`Error::SignalHandled`] or [`Error::SignalPending`] if somebody
    /// else uses the signal, [`Error::TimerLimit`] if there are no more timers, and
    /// [`Error::System`] if a call fails that usually does not.
    pub fn with_config(vcpu: BorrowedFd<'_>, config: Config) -> Result<Self, Error> {
        let signal = config.signal;
        let reservation = SignalReservation::new(signal)?;
        let delivery = SignalDelivery::new(vcpu, config)?;
        let kicks = KickTarget::new(signal);
        Ok(VcpuBinding {
            timers: Timers::new(signal)?,
            kicks,
            delivery,
            _reservation: reservation,
            deadline_timer: DeadlineTimer::new(),
            deadline: Deadline::Never,
            #[cfg(feature = "kvm-ioctls")]
            vcpu: std::os::fd::AsRawFd::as_raw_fd(&vcpu),
        })
    }

    /// Sees to it that the KVM_RUN that follows on this thread is interrupted at `deadline`. Call it
    /// right before each one: it costs no system call unless the deadline is another one than last
    /// time, or the last run was interrupted.
    ///
    /// # Errors
    /// Those of setting a timer, and [`Error::SignalHandled`] if somebody has installed a handler for
    /// the signal since.
    #[inline]
    pub fn arm(&mut self, deadline: impl Into<Deadline>) -> Result<(), Error> {
        let VcpuBinding {
            timers, delivery, ..
        } = self;
        self.deadline = deadline.into();
        self.deadline_timer.arm(self.deadline, |before| {
            // First: the timer's signal may come at once.
            delivery.check()?;
            timers.set(before, self.deadline)
        })?;
        delivery.before_run()?;
        if self.deadline_timer.owes_kick() && self.kicks.is_kicked() {
            delivery.end_next_run();
        }
        Ok(())
    }

    /// Finds out what has interrupted the KVM_RUN that was [armed](Self::arm) last. Call it after each
    /// that fails with EINTR or EAGAIN.
    ///
    /// [`Interruption::Expired`] is said only when the deadline has passed on its clock.
    #[must_use]
    pub fn interrupted(&mut self) -> Interruption {
        self.delivery.check_before_run();
        let cause = self.deadline_timer.interrupted(
            || self.delivery.take_signal(),
            || self.kicks.take(),
            || self.deadline.overshoot(),
        );
        match cause {
            deadline_timer::Cause::Kicked(reasons) => Interruption::Kicked(reasons),
            deadline_timer::Cause::Expired(overshoot) => Interruption::Expired(Expiry {
                deadline: self.deadline,
                overshoot,
            }),
            deadline_timer::Cause::Other => Interruption::Other,
        }
    }

    /// Something that forces the vCPU out of its runs on this thread, for any thread.
    #[must_use]
    pub fn kicker(&self) -> Kicker {
        self.kicks.kicker()
    }

    #[cfg(feature = "kvm-ioctls")]
    pub(crate) fn delivery(&self) -> &SignalDelivery {
        &self.delivery
    }

    /// Another vCPU would not be forced out.
    #[cfg(feature = "kvm-ioctls")]
    pub(crate) fn check_vcpu(&self, vcpu: std::os::fd::RawFd) -> Result<(), Error> {
        if vcpu == self.vcpu {
            return Ok(());
        }
        Err(Error::OtherVcpu {
            bound: self.vcpu,
            given: vcpu,
        })
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
