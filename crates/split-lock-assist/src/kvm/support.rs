//! Whether breakpoints work at all.
//!
//! Hardware virtualization stops a guest at KVM's breakpoints at any privilege level. A KVM without
//! it may only do so where it emulates the guest; elsewhere the guest itself gets the exception.

use std::os::fd::BorrowedFd;

use kvm_bindings::{
    KVM_CAP_SYNC_REGS, KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP,
    KVM_SYNC_X86_EVENTS, KVM_SYNC_X86_REGS, KVM_SYNC_X86_SREGS, kvm_guest_debug,
};

use super::scratch::{OUT, START, ScratchVm, Stop};
use super::sys::extension;
use super::{AsKvmFd, KvmError};
use crate::breakpoint_slots::dr7;
use crate::cpu::rflags;

const ALL_REGISTERS: u32 = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;

/// At which privilege levels breakpoints stop a guest in 64-bit mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct BreakpointSupport {
    kernel: Option<StepOver>,
    user: Option<StepOver>,
    /// KVM can leave registers in the run page.
    syncs_registers: bool,
}

/// How an instruction with a breakpoint on it can be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StepOver {
    /// With RFLAGS.RF set the CPU does not stop there once.
    ByResumeFlag,
    /// With all breakpoints off for one single step, which is one more exit. KVM's instruction
    /// emulator does not look at RFLAGS.RF.
    BySingleStep,
}

impl BreakpointSupport {
    /// Nothing is ever watched.
    pub const NONE: Self = Self {
        kernel: None,
        user: None,
        syncs_registers: false,
    };

    /// Tries it out, in a VM of its own, with an open `/dev/kvm`: where breakpoints do not reach, the guest that they are
    /// tried on ends with a triple fault. Takes a few milliseconds; once per process is enough.
    ///
    /// # Errors
    /// If there is no such VM.
    pub fn probe(kvm: &impl AsKvmFd) -> Result<Self, KvmError> {
        let kvm = kvm.as_kvm_fd();
        Ok(Self {
            kernel: probe_level(kvm, 0)?,
            user: probe_level(kvm, 3)?,
            syncs_registers: extension(kvm, KVM_CAP_SYNC_REGS) & ALL_REGISTERS == ALL_REGISTERS,
        })
    }

    /// Whether breakpoints stop a guest at this privilege level, and how it can go on from there.
    /// Levels 1 and 2 are not tried, because nobody uses them.
    #[must_use]
    pub fn at(&self, cpl: u8) -> Option<StepOver> {
        match cpl {
            0 => self.kernel,
            3 => self.user,
            _ => None,
        }
    }

    pub(super) fn syncs_registers(&self) -> bool {
        self.syncs_registers
    }
}

/// The guest has two instructions and no loop, so every one of these runs ends by itself.
fn probe_level(kvm: BorrowedFd<'_>, cpl: u8) -> Result<Option<StepOver>, KvmError> {
    if !stops(&mut ScratchVm::new(kvm, cpl)?)? {
        return Ok(None);
    }
    let mut by_flag = ScratchVm::new(kvm, cpl)?;
    if stops(&mut by_flag)? && goes_on_with_flag(&mut by_flag)? {
        return Ok(Some(StepOver::ByResumeFlag));
    }
    let mut by_step = ScratchVm::new(kvm, cpl)?;
    let steps = stops(&mut by_step)? && goes_on_by_step(&mut by_step)?;
    Ok(steps.then_some(StepOver::BySingleStep))
}

/// Stops at its first instruction because of a breakpoint there.
fn stops(vm: &mut ScratchVm) -> Result<bool, KvmError> {
    set_breakpoint(vm)?;
    Ok(matches!(
        vm.run(),
        Stop::Debug(exit) if exit.pc == START && exit.dr6 & 1 != 0
    ))
}

fn goes_on_with_flag(vm: &mut ScratchVm) -> Result<bool, KvmError> {
    let mut registers = vm.registers()?;
    registers.rflags |= rflags::RESUME;
    vm.set_registers(&registers)?;
    Ok(gets_to_the_port(vm))
}

fn goes_on_by_step(vm: &mut ScratchVm) -> Result<bool, KvmError> {
    vm.set_guest_debug(&kvm_guest_debug {
        control: KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP,
        ..kvm_guest_debug::default()
    })?;
    let stepped = matches!(vm.run(), Stop::Debug(exit) if exit.pc == OUT);
    set_breakpoint(vm)?;
    Ok(stepped && gets_to_the_port(vm))
}

fn gets_to_the_port(vm: &mut ScratchVm) -> bool {
    matches!(vm.run(), Stop::Port)
}

fn set_breakpoint(vm: &ScratchVm) -> Result<(), KvmError> {
    let mut debug = kvm_guest_debug {
        control: KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP,
        ..kvm_guest_debug::default()
    };
    debug.arch.debugreg[0] = START;
    debug.arch.debugreg[7] = dr7(&[Some(START), None, None, None]);
    vm.set_guest_debug(&debug)
}
