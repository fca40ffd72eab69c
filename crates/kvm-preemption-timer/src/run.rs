//! Bounded runs of a vCPU of `kvm_ioctls`.

use std::io;
use std::os::fd::AsRawFd;

use kvm_ioctls::{VcpuExit, VcpuFd};

use crate::{Deadline, Error, Interruption, VcpuBinding, sys};

/// How a run of [`VcpuBinding::run_until`] ended.
#[derive(Debug)]
#[must_use = "a guest exit has to be handled"]
pub enum RunEnd<'v> {
    /// The guest needs something done. The deadline stands: run again with the same one after that.
    Exit(VcpuExit<'v>),
    /// The deadline, a kick, or somebody else.
    Interrupted(Interruption),
}

/// For vCPUs of `kvm_ioctls`.
impl VcpuBinding {
    /// Binds a vCPU of `kvm_ioctls` to the calling thread.
    ///
    /// # Errors
    /// As [`VcpuBinding::with_config`].
    pub fn of(vcpu: &VcpuFd) -> Result<Self, Error> {
        Self::new(sys::borrow_fd(vcpu))
    }

    /// The same, with a [`Config`](crate::Config).
    ///
    /// # Errors
    /// As [`VcpuBinding::with_config`].
    pub fn of_with_config(vcpu: &VcpuFd, config: crate::Config) -> Result<Self, Error> {
        Self::with_config(sys::borrow_fd(vcpu), config)
    }

    /// Runs the guest until it needs something, or `deadline` has passed, or the vCPU is kicked, or
    /// somebody else interrupts it.
    ///
    /// The timer is set only when the deadline is another one than last time, so that handling a guest
    /// exit and going back in costs exactly one system call: KVM_RUN. With a deadline that has already
    /// passed, I/O that the guest waits for is completed, and with high-resolution timers it executes
    /// nothing: the timer's interrupt is there before the guest is entered.
    ///
    /// An instruction that makes several exits (a string instruction on a device) makes them without
    /// looking at the deadline in between.
    ///
    /// # Errors
    /// [`Error::Run`] if KVM cannot run the vCPU, [`Error::OtherVcpu`] if it is not the one that is
    /// bound, and those of [`VcpuBinding::arm`].
    pub fn run_until<'v>(
        &mut self,
        vcpu: &'v mut VcpuFd,
        deadline: impl Into<Deadline>,
    ) -> Result<RunEnd<'v>, Error> {
        Ok(match self.run_once(vcpu, deadline.into())? {
            Ok(exit) => RunEnd::Exit(exit),
            Err((interruption, _)) => RunEnd::Interrupted(interruption),
        })
    }

    /// An interruption gives the vCPU back.
    pub(crate) fn run_once<'v>(
        &mut self,
        vcpu: &'v mut VcpuFd,
        deadline: Deadline,
    ) -> Result<Result<VcpuExit<'v>, (Interruption, &'v mut VcpuFd)>, Error> {
        self.check_vcpu(vcpu.as_raw_fd())?;
        self.arm(deadline)?;
        match sys::enter(vcpu) {
            Ok(exit) => Ok(Ok(exit)),
            Err((error, vcpu)) if is_interruption(&error) => Ok(Err((self.interrupted(), vcpu))),
            Err((source, _)) => Err(Error::Run { source }),
        }
    }

    /// Completes I/O that the guest waits for, without letting it execute anything, so that the
    /// vCPU's state can be read after [`RunEnd::Exit`]. Deadlines and kicks are not affected.
    ///
    /// `Some` is another exit that belongs to the same instruction (a string instruction, say, or
    /// an access that crosses pages): handle it and call again.
    ///
    /// # Errors
    /// [`Error::Run`] if KVM cannot run the vCPU, and [`Error::OtherVcpu`] if it is not the one that
    /// is bound. KVM has to have KVM_CAP_IMMEDIATE_EXIT, which [`open_kvm`](crate::open_kvm) checks.
    pub fn complete_io<'v>(&mut self, vcpu: &'v mut VcpuFd) -> Result<Option<VcpuExit<'v>>, Error> {
        self.check_vcpu(vcpu.as_raw_fd())?;
        self.delivery().begin_completion();
        let result = sys::enter(vcpu);
        self.delivery().end_completion();
        match result {
            Ok(exit) => Ok(Some(exit)),
            Err((error, _)) if is_interruption(&error) => Ok(None),
            Err((source, _)) => Err(Error::Run { source }),
        }
    }
}

/// EAGAIN is what a vCPU gets that waited to be started by another one and has been.
fn is_interruption(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN))
}
