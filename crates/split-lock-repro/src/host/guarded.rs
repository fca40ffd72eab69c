//! A hosted vCPU with a guard that gets it past its split locks.

use std::time::Duration;

use kvm_bindings::kvm_debug_exit_arch;
use kvm_preemption_timer::{MonotonicTime, ThreadCpuTime};
use split_lock_assist::guard::{self, Config, Run, Stall, Statistics, VcpuGuard};
use split_lock_assist::kvm::{BreakpointSupport, KvmVcpu};
use split_lock_assist::pause::PauseGate;

use super::vcpu::HostedParts;
use super::{Ended, HostError, HostedVcpu};
use crate::vm::ExitCause;

/// A [`HostedVcpu`] whose runs are looked at, and which is helped if it does not get on.
#[derive(Debug)]
pub struct GuardedVcpu<'a> {
    vcpu: HostedVcpu<'a>,
    /// `None` if nobody is to look.
    guard: Option<VcpuGuard>,
    /// The same as a guard sees it on this host.
    kvm: KvmVcpu,
    support: BreakpointSupport,
    new_stalls: Vec<Stall>,
    /// Where the budget of a run ends that was cut short by a kick.
    left_over: Option<MonotonicTime>,
}

impl<'a> GuardedVcpu<'a> {
    /// Guards a vCPU, or leaves it alone if there is no `config`. All guarded vCPUs of a VM need the
    /// same `gate`; `support` is what [`BreakpointSupport::probe`] says, or less if less is to be watched.
    ///
    /// # Errors
    /// If KVM's part of the vCPU cannot be had.
    pub fn new(
        mut vcpu: HostedVcpu<'a>,
        config: Option<Config>,
        gate: &PauseGate,
        support: BreakpointSupport,
    ) -> Result<Self, HostError> {
        if config.is_some() {
            vcpu.go_through(gate);
        }
        let kvm = KvmVcpu::new(vcpu.fd(), support)?;
        Ok(Self {
            vcpu,
            guard: config.map(VcpuGuard::new),
            kvm,
            support,
            new_stalls: vec![],
            left_over: None,
        })
    }

    /// The vCPU without its guard.
    #[must_use]
    pub fn vcpu(&self) -> &HostedVcpu<'a> {
        &self.vcpu
    }

    /// The same, to change it.
    #[must_use]
    pub fn vcpu_mut(&mut self) -> &mut HostedVcpu<'a> {
        &mut self.vcpu
    }

    /// What the guard has done so far; `None` if there is none.
    #[must_use]
    pub fn statistics(&self) -> Option<&Statistics> {
        self.guard.as_ref().map(VcpuGuard::statistics)
    }

    /// The instructions at which the vCPU was found held up, each once, since this was last asked.
    pub fn take_new_stalls(&mut self) -> Vec<Stall> {
        std::mem::take(&mut self.new_stalls)
    }

    /// Runs the guest until it needs something, or is kicked, or `deadline` has passed. With a guard
    /// that grants grace it may take longer. A kick may also be that of another vCPU that has done
    /// something for its guest: then nothing has to be done.
    ///
    /// # Errors
    /// As [`HostedVcpu::run_until`], or if the guard cannot look at the vCPU.
    pub fn run_until(&mut self, deadline: MonotonicTime) -> Result<Ended, HostError> {
        let Self {
            vcpu,
            guard: Some(guard),
            kvm,
            support,
            new_stalls,
            left_over,
        } = self
        else {
            return self.vcpu.run_until(deadline);
        };
        loop {
            let begin = MonotonicTime::now();
            // Otherwise a vCPU that others kick again and again would never come to the end of a
            // budget, and nobody would see that it is held up.
            let end = match left_over.take() {
                Some(end) => end,
                None => begin + guard.budget(deadline.saturating_since(begin)),
            };
            let cpu_before = ThreadCpuTime::now();
            let ended = loop {
                match vcpu.run_until(end)? {
                    Ended::Exit(ExitCause::Breakpoint { address, dr6 }) => {
                        let parts = vcpu.parts(kvm, *support, Some(address));
                        handle_breakpoint(guard, parts, address, dr6)?;
                    }
                    ended => break ended,
                }
            };
            let cpu_ns = ThreadCpuTime::now().as_nanos() - cpu_before.as_nanos();
            let run = Run {
                wall: MonotonicTime::now().saturating_since(begin),
                cpu: Duration::from_nanos(cpu_ns),
                ended: match ended {
                    Ended::Expired => guard::Ended::Expired,
                    Ended::Kicked => guard::Ended::Kicked,
                    Ended::Exit(_) => guard::Ended::Exited,
                },
            };
            let progress = match vcpu.parts(kvm, *support, None) {
                HostedParts::Native(mut parts) => guard.after_run(&run, &mut parts)?,
                HostedParts::Emulated(mut parts) => guard.after_run(&run, &mut parts)?,
            };
            new_stalls.extend(progress.stall().filter(|stall| stall.is_new));
            if ended == Ended::Kicked {
                *left_over = Some(end);
            }
            if ended != Ended::Expired || MonotonicTime::now() >= deadline {
                return Ok(ended);
            }
        }
    }
}

/// Whatever is done there, the vCPU can run again.
fn handle_breakpoint(
    guard: &mut VcpuGuard,
    parts: HostedParts<'_>,
    pc: u64,
    dr6: u64,
) -> Result<(), HostError> {
    match parts {
        HostedParts::Native(mut parts) => {
            let exit = kvm_debug_exit_arch {
                pc,
                dr6,
                ..Default::default()
            };
            guard.handle_breakpoint(exit, &mut parts)?;
        }
        HostedParts::Emulated(mut parts) => {
            guard.handle_breakpoint(pc, &mut parts)?;
        }
    }
    Ok(())
}
