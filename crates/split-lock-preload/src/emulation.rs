//! The guard of one vCPU, from the first time on that it is suspected.

use std::os::fd::OwnedFd;
use std::time::Duration;

use kvm_bindings::kvm_debug_exit_arch;
use split_lock_assist::emulate::Reason;
use split_lock_assist::guard::{
    BreakpointOutcome, Config, Ended, Reaction, Response, Run, Statistics, VcpuGuard, VcpuProgress,
};
use split_lock_assist::kvm::{BreakpointSupport, KvmError, KvmVcpu};
use split_lock_assist::memory::AccessError;
use split_lock_assist::pause::GuestPass;

use crate::settings::Guard;
use crate::slots::Slots;
use crate::sys::GuestMemory;

/// What a punished thread looks like to a guard: a wait, and no CPU time.
const PUNISHED: Run = Run {
    wall: Duration::from_millis(10),
    cpu: Duration::ZERO,
    ended: Ended::Expired,
};

#[derive(Debug)]
pub(crate) struct Emulation {
    kvm: KvmVcpu,
    guard: VcpuGuard,
    guard_only_reports: bool,
}

/// What was found out about a vCPU that was suspected.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Finding {
    /// The instruction has been done. In words, if it is new.
    Emulated { instruction: Option<String> },
    /// The instruction is the CPU's to do, for this reason.
    LeftToCpu {
        why: String,
        instruction: Option<String>,
    },
    /// It is at a split lock, of which nothing more is wanted than to know of it.
    Reported { instruction: Option<String> },
    /// It is at no split lock.
    NoSplitLock,
}

impl Emulation {
    pub(crate) fn new(
        vcpu: OwnedFd,
        support: BreakpointSupport,
        guard: Guard,
    ) -> Result<Self, KvmError> {
        let reaction = match guard {
            Guard::Emulate => Reaction::Emulate,
            Guard::Report => Reaction::Report,
        };
        Ok(Self {
            kvm: KvmVcpu::owning(vcpu, support)?,
            guard: VcpuGuard::new(Config::new(reaction)),
            guard_only_reports: guard == Guard::Report,
        })
    }

    pub(crate) fn statistics(&self) -> &Statistics {
        self.guard.statistics()
    }

    /// Its thread was seen being punished, and has come out of KVM_RUN.
    pub(crate) fn examine(&mut self, slots: &Slots, pass: &GuestPass) -> Result<Finding, KvmError> {
        // What the guard would have to find out from CPU time and registers was seen.
        self.guard.feign_stall();
        let mut parts = self.kvm.stopped(GuestMemory::new(slots), pass);
        let progress = self.guard.after_run(&PUNISHED, &mut parts)?;
        Ok(match progress {
            VcpuProgress::Slow(stall) | VcpuProgress::Stalled(stall) => {
                let instruction = stall.is_new.then(|| stall.instruction.to_string());
                match stall.response {
                    Response::Emulated { .. } => Finding::Emulated { instruction },
                    Response::LeftToCpu(reason) => Finding::LeftToCpu {
                        why: in_words(&reason),
                        instruction,
                    },
                    _ if self.guard_only_reports => Finding::Reported { instruction },
                    _ => Finding::LeftToCpu {
                        why: "its lock is not on its operand".into(),
                        instruction,
                    },
                }
            }
            VcpuProgress::Inaccessible(why) => Finding::LeftToCpu {
                why: why.to_string(),
                instruction: None,
            },
            _ => Finding::NoSplitLock,
        })
    }

    /// What KVM_RUN has returned for, if it was a breakpoint or a step.
    pub(crate) fn debug_exit(&self) -> Option<kvm_debug_exit_arch> {
        self.kvm.debug_exit()
    }

    /// After such an exit: the vCPU is to run on. Why the instruction is left to the CPU, if it is.
    pub(crate) fn handle_breakpoint(
        &mut self,
        exit: kvm_debug_exit_arch,
        slots: &Slots,
        pass: &GuestPass,
    ) -> Result<Option<String>, KvmError> {
        let mut parts = self.kvm.stopped(GuestMemory::new(slots), pass);
        Ok(match self.guard.handle_breakpoint(exit, &mut parts)? {
            BreakpointOutcome::LeftToCpu(reason) => Some(in_words(&reason)),
            BreakpointOutcome::Inaccessible(why) => Some(why.to_string()),
            _ => None,
        })
    }

    /// Takes the breakpoints away.
    pub(crate) fn clear_breakpoints(
        &mut self,
        slots: &Slots,
        pass: &GuestPass,
    ) -> Result<(), KvmError> {
        let mut parts = self.kvm.stopped(GuestMemory::new(slots), pass);
        self.guard.clear_breakpoints(&mut parts)
    }
}

/// A reason without addresses, so that the same reasons can be counted.
fn in_words(reason: &Reason) -> String {
    match reason {
        Reason::NoLockedAccess(_) => "it is no locked access to data".into(),
        Reason::Access(AccessError::NotMapped { .. }) => "its operand is not mapped".into(),
        Reason::Access(AccessError::NotWritable { .. }) => "its operand may not be written".into(),
        Reason::Access(AccessError::NotRam { .. }) => "its operand is not RAM".into(),
        Reason::Access(AccessError::Undecided { on, .. }) => {
            format!("whether its operand can be written depends on {on}")
        }
        other => other.to_string(),
    }
}
