//! Breakpoints by KVM_SET_GUEST_DEBUG.

use kvm_bindings::{
    KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_INJECT_DB, KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP,
    kvm_debug_exit_arch, kvm_guest_debug,
};

use super::KvmError;
use super::debug_registers::DebugRegisters;
use super::support::StepOver;
use super::vcpu::KvmVcpu;
use crate::breakpoint_slots::{SLOTS, dr7};
use crate::cpu::{Registers, rflags};
use crate::guard::{Breakpoints, DebugExit};

const DR6_HITS: u64 = 0b1111;
/// An access to a debug register, a single step, a switch of tasks.
const DR6_OTHER_REASONS: u64 = 0b111 << 13;
const DR6_SINGLE_STEP: u64 = 1 << 14;

/// The breakpoints of a vCPU of KVM.
///
/// KVM has one set of them: a VMM that debugs its guest must not use them at the same time.
#[derive(Debug)]
pub struct KvmBreakpoints<'a> {
    pub(super) vcpu: &'a KvmVcpu,
}

impl KvmBreakpoints<'_> {
    fn registers(&self) -> &DebugRegisters {
        &self.vcpu.debug
    }

    fn install(&self, also: u32) -> Result<(), KvmError> {
        let mut debug = kvm_guest_debug::default();
        if self.registers().is_watching() {
            let set = self.registers().set.get();
            debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
            debug.arch.debugreg[..SLOTS].copy_from_slice(&set.map(Option::unwrap_or_default));
            debug.arch.debugreg[7] = dr7(&set);
        }
        debug.control |= also;
        self.vcpu.set_guest_debug(&debug)
    }

    /// KVM has taken an exception that it would have given to the guest, had nobody watched.
    fn give_to_guest(&self, dr6: u64) -> Result<(), KvmError> {
        let mut debug_registers = self.vcpu.debug_registers()?;
        debug_registers.dr6 |= dr6 & DR6_OTHER_REASONS;
        self.vcpu.set_debug_registers(&debug_registers)?;
        self.install(KVM_GUESTDBG_INJECT_DB)
    }
}

impl Breakpoints for KvmBreakpoints<'_> {
    type Error = KvmError;
    type Exit = kvm_debug_exit_arch;

    fn work_at(&self, cpl: u8) -> bool {
        self.registers().support.at(cpl).is_some()
    }

    fn guest_uses_debug_registers(&mut self) -> Result<bool, KvmError> {
        self.vcpu.forget_guest_breakpoints();
        let armed = self.vcpu.guest_breakpoints()?;
        self.registers().guest_armed.set(armed);
        Ok(armed)
    }

    fn set(&mut self, addresses: &[Option<u64>; SLOTS]) -> Result<(), KvmError> {
        let registers = self.registers();
        if registers.set.get() == *addresses && !registers.stepping.get() {
            return Ok(());
        }
        let before = (registers.set.get(), registers.stepping.get());
        registers.set.set(*addresses);
        registers.stepping.set(false);
        let installed = self.install(0);
        if installed.is_err() {
            registers.set.set(before.0);
            registers.stepping.set(before.1);
        }
        if registers.support.syncs_registers() {
            // Only meanwhile: every other exit is slower for it.
            self.vcpu.sync_to_run_page(registers.is_watching());
        }
        installed
    }

    fn step_over(&mut self) -> Result<(), KvmError> {
        let registers = *self.vcpu.registers()?;
        let cpl = self.vcpu.special()?.context.cpl;
        if self.registers().support.at(cpl) == Some(StepOver::ByResumeFlag) {
            return self.vcpu.set_registers(&Registers {
                rflags: registers.rflags | rflags::RESUME,
                ..registers
            });
        }
        self.vcpu.set_guest_debug(&kvm_guest_debug {
            control: KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP,
            ..kvm_guest_debug::default()
        })?;
        self.registers().stepping.set(true);
        Ok(())
    }

    fn classify_exit(&mut self, exit: kvm_debug_exit_arch) -> Result<DebugExit, KvmError> {
        if self.registers().stepping.get() {
            self.install(0)?;
            self.registers().stepping.set(false);
            if exit.dr6 & DR6_SINGLE_STEP != 0 {
                return Ok(DebugExit::SteppedOver);
            }
        }
        if exit.dr6 & DR6_HITS != 0 && self.registers().is_watching() {
            if self.registers().support.syncs_registers() {
                let guest_armed = self.registers().guest_armed.get();
                self.vcpu.take_from_run_page(exit.pc, guest_armed);
            }
            return Ok(DebugExit::Breakpoint { address: exit.pc });
        }
        self.give_to_guest(exit.dr6)?;
        Ok(DebugExit::ForGuest)
    }
}
