//! A vCPU whose runs end.

use std::borrow::BorrowMut;
use std::io;
use std::time::Duration;

use kvm_ioctls::{VcpuExit, VcpuFd};

use crate::deadline_timer::Interruption;
use crate::kicker::Kicker;
use crate::preemption::Preemption;
use crate::{Config, Deadline, Error, sys};

/// A vCPU that runs until a deadline, whatever the guest does.
///
/// It owns the vCPU or borrows it (`V` is a [`VcpuFd`] or a `&mut VcpuFd`), and is bound to the
/// thread that made it: the timer signals that thread, so it cannot be sent to another one. Hand
/// the `VcpuFd` to the thread that will run it and bind it there.
///
/// Dropping it disarms the timer, consumes what is pending, and restores the thread's signal mask
/// and KVM's, in that order. KVM does not tell what its mask was before: it is left with none.
/// Do drop it: if it is forgotten and its thread ends, a [`Kicker`] may signal a later thread that
/// happens to get the same id.
///
/// ```compile_fail
/// fn send(vcpu: kvm_preemption_timer::PreemptibleVcpu) {
///     std::thread::spawn(move || drop(vcpu));
/// }
/// ```
#[derive(Debug)]
pub struct PreemptibleVcpu<V: BorrowMut<VcpuFd> = VcpuFd> {
    // Before the vCPU, so that it is torn down first.
    preemption: Preemption,
    vcpu: V,
}

/// How a bounded run ended.
#[derive(Debug)]
#[must_use = "a guest exit has to be handled"]
pub enum Outcome<'a> {
    /// The deadline has passed. Pending I/O is complete: the vCPU's state can be read.
    Expired(Expiry),
    /// A [`Kicker`] has forced the vCPU out. Pending I/O is complete.
    Kicked,
    /// The guest needs something done. The deadline stands: run again with the same one after that.
    Exit(VcpuExit<'a>),
}

/// A deadline that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// The deadline.
    pub deadline: Deadline,
    /// How much later it was noticed, on the deadline's own clock.
    pub overshoot: Duration,
}

impl<V: BorrowMut<VcpuFd>> PreemptibleVcpu<V> {
    /// Binds a vCPU to the calling thread, with the default [`Config`].
    ///
    /// # Errors
    /// As [`PreemptibleVcpu::with_config`].
    pub fn new(vcpu: V) -> Result<Self, Error> {
        Self::with_config(vcpu, Config::default())
    }

    /// Binds a vCPU to the calling thread. What the thread blocks is also blocked while the vCPU
    /// runs, but for the signal. A signal that the thread unblocks later only ends a run after the
    /// vCPU has been bound anew.
    ///
    /// # Errors
    /// [`Error::SignalTaken`], [`Error::SignalHandled`] or [`Error::SignalPending`] if somebody
    /// else uses the signal, [`Error::TimerLimit`] if there are no more timers, and
    /// [`Error::System`] if a call fails that usually does not.
    pub fn with_config(vcpu: V, config: Config) -> Result<Self, Error> {
        let preemption = Preemption::new(sys::borrow_fd(vcpu.borrow()), config)?;
        Ok(PreemptibleVcpu { preemption, vcpu })
    }

    /// Runs the guest until it needs something, or is kicked, or `deadline` has passed.
    ///
    /// Never ends before the deadline for no reason. The timer is set only when the deadline is
    /// another one than last time, so that handling a guest exit and going back in costs exactly
    /// one system call: KVM_RUN. With a deadline that has already passed, I/O that the guest waits
    /// for is completed, and with high-resolution timers it executes nothing: the timer's interrupt
    /// is there before the guest is entered.
    ///
    /// An instruction that makes several exits (a string instruction on a device) makes them without
    /// looking at the deadline in between.
    ///
    /// # Errors
    /// [`Error::Run`] if KVM cannot run the vCPU, and the errors of setting a timer.
    pub fn run_until(&mut self, deadline: impl Into<Deadline>) -> Result<Outcome<'_>, Error> {
        let deadline = deadline.into();
        let PreemptibleVcpu { preemption, vcpu } = self;
        let mut vcpu = vcpu.borrow_mut();
        loop {
            preemption.arm(deadline)?;
            vcpu = match sys::enter(vcpu) {
                Ok(exit) => return Ok(Outcome::Exit(exit)),
                Err((error, vcpu)) if is_interruption(&error) => vcpu,
                Err((source, _)) => return Err(Error::Run { source }),
            };
            match preemption.interrupted(deadline) {
                Interruption::Kicked => return Ok(Outcome::Kicked),
                Interruption::Expired(overshoot) => {
                    let expiry = Expiry {
                        deadline,
                        overshoot,
                    };
                    return Ok(Outcome::Expired(expiry));
                }
                Interruption::Spurious => {}
            }
        }
    }

    /// Completes I/O that the guest waits for, without letting it execute anything, so that the
    /// vCPU's state can be read after [`Outcome::Exit`]. Deadlines and kicks are not affected.
    ///
    /// `Some` is another exit that belongs to the same instruction (a string instruction, say, or
    /// an access that crosses pages): handle it and call again.
    ///
    /// # Errors
    /// [`Error::Run`] if KVM cannot run the vCPU. KVM has to have KVM_CAP_IMMEDIATE_EXIT, which
    /// [`open_kvm`](crate::open_kvm) checks.
    pub fn complete_io(&mut self) -> Result<Option<VcpuExit<'_>>, Error> {
        self.preemption.mechanism().begin_completion();
        let result = sys::enter(self.vcpu.borrow_mut());
        self.preemption.mechanism().end_completion();
        match result {
            Ok(exit) => Ok(Some(exit)),
            Err((error, _)) if is_interruption(&error) => Ok(None),
            Err((source, _)) => Err(Error::Run { source }),
        }
    }

    /// Something that forces this vCPU out, for any thread.
    #[must_use]
    pub fn kicker(&self) -> Kicker {
        self.preemption.kicker()
    }

    /// The vCPU, to read its state.
    #[must_use]
    pub fn vcpu(&self) -> &VcpuFd {
        self.vcpu.borrow()
    }

    /// The vCPU, to change its state. Do not put another vCPU in its place: only this one is
    /// forced out. `kvm_run.immediate_exit` belongs to this crate; to force the vCPU out, use a
    /// [`Kicker`].
    #[must_use]
    pub fn vcpu_mut(&mut self) -> &mut VcpuFd {
        self.vcpu.borrow_mut()
    }

    /// Gives the vCPU back, no longer bound to this thread.
    #[must_use]
    pub fn into_inner(self) -> V {
        self.vcpu
    }
}

/// EAGAIN is what a vCPU gets that waited to be started by another one and has been.
fn is_interruption(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN))
}
