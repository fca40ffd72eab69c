//! Breakpoints by KVM_SET_GUEST_DEBUG.

use std::rc::Rc;

use kvm_bindings::{
    KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_INJECT_DB, KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP,
    kvm_debug_exit_arch, kvm_guest_debug,
};

use super::KvmError;
use super::cpu::cpl;
use super::support::{BreakpointSupport, StepOver};
use super::vcpu::StoppedVcpu;
use crate::breakpoint_slots::{SLOTS, dr7};
use crate::cpu::rflags;
use crate::guard::{Breakpoints, DebugExit};

const DR6_HITS: u64 = 0b1111;
/// An access to a debug register, a single step, a switch of tasks.
const DR6_OTHER_REASONS: u64 = 0b111 << 13;
const DR6_SINGLE_STEP: u64 = 1 << 14;

/// What the debug registers of one vCPU are used for. It lives as long as the vCPU.
///
/// KVM has one set of them: a VMM that debugs its guest must not use them at the same time. While
/// something is watched, KVM leaves the vCPU's registers in the run page at every exit
/// (`kvm_valid_regs`), which a VMM must not use for itself then.
#[derive(Debug)]
pub struct DebugRegisters {
    support: BreakpointSupport,
    set: [Option<u64>; SLOTS],
    /// One instruction is being executed, and nothing is watched meanwhile.
    stepping: bool,
    /// What the guest did with its own when that was last looked at.
    guest_armed: bool,
}

/// The breakpoints of a vCPU of KVM.
#[derive(Debug)]
pub struct KvmBreakpoints<'a> {
    vcpu: Rc<StoppedVcpu<'a>>,
    registers: &'a mut DebugRegisters,
}

impl DebugRegisters {
    /// Nothing is watched at first. `support` is what [`BreakpointSupport::probe`] says, once per process.
    #[must_use]
    pub fn new(support: BreakpointSupport) -> Self {
        Self {
            support,
            set: [None; SLOTS],
            stepping: false,
            guest_armed: false,
        }
    }
}

impl<'a> KvmBreakpoints<'a> {
    pub(super) fn new(vcpu: Rc<StoppedVcpu<'a>>, registers: &'a mut DebugRegisters) -> Self {
        Self { vcpu, registers }
    }

    fn is_watching(&self) -> bool {
        self.registers.set.iter().any(Option::is_some)
    }

    fn install(&self, also: u32) -> Result<(), KvmError> {
        let mut debug = kvm_guest_debug::default();
        if self.is_watching() {
            debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
            debug.arch.debugreg[..SLOTS]
                .copy_from_slice(&self.registers.set.map(Option::unwrap_or_default));
            debug.arch.debugreg[7] = dr7(&self.registers.set);
        }
        debug.control |= also;
        self.set_guest_debug(&debug)
    }

    fn set_guest_debug(&self, debug: &kvm_guest_debug) -> Result<(), KvmError> {
        self.vcpu
            .call("KVM_SET_GUEST_DEBUG", |fd| fd.set_guest_debug(debug))
    }

    /// KVM has taken an exception that it would have given to the guest, had nobody watched.
    fn give_to_guest(&self, dr6: u64) -> Result<(), KvmError> {
        let mut debug_registers = self.vcpu.debug_registers()?;
        debug_registers.dr6 |= dr6 & DR6_OTHER_REASONS;
        self.vcpu.call("KVM_SET_DEBUGREGS", |fd| {
            fd.set_debug_regs(&debug_registers)
        })?;
        self.install(KVM_GUESTDBG_INJECT_DB)
    }
}

impl Breakpoints for KvmBreakpoints<'_> {
    type Error = KvmError;
    type Exit = kvm_debug_exit_arch;

    fn work_at(&self, cpl: u8) -> bool {
        self.registers.support.at(cpl).is_some()
    }

    fn guest_uses_debug_registers(&mut self) -> Result<bool, KvmError> {
        self.vcpu.forget_guest_breakpoints();
        self.registers.guest_armed = self.vcpu.guest_breakpoints()?;
        Ok(self.registers.guest_armed)
    }

    fn set(&mut self, addresses: &[Option<u64>; SLOTS]) -> Result<(), KvmError> {
        if self.registers.set == *addresses && !self.registers.stepping {
            return Ok(());
        }
        let before = (self.registers.set, self.registers.stepping);
        (self.registers.set, self.registers.stepping) = (*addresses, false);
        let installed = self.install(0);
        if installed.is_err() {
            (self.registers.set, self.registers.stepping) = before;
        }
        if self.registers.support.syncs_registers() {
            // Only meanwhile: every other exit is slower for it.
            self.vcpu.sync_to_run_page(self.is_watching());
        }
        installed
    }

    fn step_over(&mut self) -> Result<(), KvmError> {
        let mut registers = self.vcpu.registers()?;
        let cpl = cpl(&self.vcpu.special()?, registers.rflags);
        if self.registers.support.at(cpl) == Some(StepOver::ByResumeFlag) {
            registers.rflags |= rflags::RESUME;
            return self.vcpu.set_registers(&registers);
        }
        self.set_guest_debug(&kvm_guest_debug {
            control: KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP,
            ..kvm_guest_debug::default()
        })?;
        self.registers.stepping = true;
        Ok(())
    }

    fn classify_exit(&mut self, exit: kvm_debug_exit_arch) -> Result<DebugExit, KvmError> {
        if self.registers.stepping {
            self.install(0)?;
            self.registers.stepping = false;
            if exit.dr6 & DR6_SINGLE_STEP != 0 {
                return Ok(DebugExit::SteppedOver);
            }
        }
        if exit.dr6 & DR6_HITS != 0 && self.is_watching() {
            if self.registers.support.syncs_registers() {
                let guest_armed = self.registers.guest_armed;
                self.vcpu.take_from_run_page(exit.pc, guest_armed);
            }
            return Ok(DebugExit::Breakpoint);
        }
        self.give_to_guest(exit.dr6)?;
        Ok(DebugExit::ForGuest)
    }
}
