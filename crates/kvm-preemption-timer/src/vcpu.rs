//! A vCPU and its binding in one.

use std::borrow::BorrowMut;

use kvm_ioctls::{VcpuExit, VcpuFd};

use crate::kicker::Kicker;
use crate::{Config, Deadline, Error, Expiry, Interruption, VcpuBinding};

/// A vCPU and its [`VcpuBinding`] in one, for a loop in which nobody but this crate interrupts a run.
///
/// It owns the vCPU or borrows it (`V` is a [`VcpuFd`] or a `&mut VcpuFd`), and like the binding it
/// stays on its thread. Interruptions by others are passed over, and what others have written to
/// `kvm_run.immediate_exit` is cleared: a VMM that forces its vCPUs out in a way of its own uses the
/// binding, which reports that.
///
/// ```compile_fail
/// fn send(vcpu: kvm_preemption_timer::PreemptibleVcpu) {
///     std::thread::spawn(move || drop(vcpu));
/// }
/// ```
#[derive(Debug)]
pub struct PreemptibleVcpu<V: BorrowMut<VcpuFd> = VcpuFd> {
    // Before the vCPU, so that it is torn down first.
    binding: VcpuBinding,
    vcpu: V,
}

/// How a run of a [`PreemptibleVcpu`] ended.
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

impl<V: BorrowMut<VcpuFd>> PreemptibleVcpu<V> {
    /// Binds a vCPU to the calling thread, with the default [`Config`].
    ///
    /// # Errors
    /// As [`VcpuBinding::with_config`].
    pub fn new(vcpu: V) -> Result<Self, Error> {
        Self::with_config(vcpu, Config::default())
    }

    /// Binds a vCPU to the calling thread.
    ///
    /// # Errors
    /// As [`VcpuBinding::with_config`].
    pub fn with_config(vcpu: V, config: Config) -> Result<Self, Error> {
        let binding = VcpuBinding::of_with_config(vcpu.borrow(), config)?;
        binding.delivery().withdraw_exit_requests_of_others();
        Ok(PreemptibleVcpu { binding, vcpu })
    }

    /// Runs the guest until it needs something, or is kicked, or `deadline` has passed.
    ///
    /// Never ends before the deadline for no reason; otherwise as [`VcpuBinding::run_until`].
    ///
    /// # Errors
    /// As [`VcpuBinding::run_until`].
    pub fn run_until(&mut self, deadline: impl Into<Deadline>) -> Result<Outcome<'_>, Error> {
        let deadline = deadline.into();
        let PreemptibleVcpu { binding, vcpu } = self;
        let mut vcpu = vcpu.borrow_mut();
        loop {
            vcpu = match binding.run_once(vcpu, deadline)? {
                Ok(exit) => return Ok(Outcome::Exit(exit)),
                Err((Interruption::Expired(expiry), _)) => return Ok(Outcome::Expired(expiry)),
                Err((Interruption::Kicked(_), _)) => return Ok(Outcome::Kicked),
                Err((Interruption::Other, vcpu)) => vcpu,
            };
            binding.delivery().withdraw_exit_requests_of_others();
        }
    }

    /// Completes I/O that the guest waits for: see [`VcpuBinding::complete_io`].
    ///
    /// # Errors
    /// As [`VcpuBinding::complete_io`].
    pub fn complete_io(&mut self) -> Result<Option<VcpuExit<'_>>, Error> {
        self.binding.complete_io(self.vcpu.borrow_mut())
    }

    /// Something that forces this vCPU out, for any thread.
    #[must_use]
    pub fn kicker(&self) -> Kicker {
        self.binding.kicker()
    }

    /// The vCPU, to read its state.
    #[must_use]
    pub fn vcpu(&self) -> &VcpuFd {
        self.vcpu.borrow()
    }

    /// The vCPU, to change its state. Another vCPU in its place is refused by the next run.
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
