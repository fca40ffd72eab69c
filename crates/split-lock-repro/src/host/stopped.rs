//! A vCPU between two runs, as the assist's traits see it: at the guest's own instruction, also while
//! the CPU is in the handler of a trap that only an emulated host has.

use std::cell::Cell;

use kvm_bindings::{kvm_regs, kvm_vcpu_events};
use kvm_ioctls::{SyncReg, VcpuFd};
use nix::sys::resource::{UsageWho, getrusage};
use split_lock_assist::breakpoint_slots::SLOTS;
use split_lock_assist::cpu::{Context, Cpu, Registers};
use split_lock_assist::guard::{Breakpoints, DebugExit, Inaccessible, Vcpu};
use split_lock_assist::guest_ram::GuestRam;
use split_lock_assist::kvm::BreakpointSupport;
use split_lock_assist::paging::PagedMemory;
use vm_memory::GuestMemoryMmap;

use super::trap::{HiddenFlags, Trap};
use crate::guest::Level;
use crate::vm::{VcpuSlot, VmError};

/// The registers. Any I/O of the last exit must be completed.
///
/// KVM is asked for each thing once: where it runs nested, asking can take as long as an exit.
#[derive(Debug)]
pub(super) struct StoppedCpu<'a> {
    slot: &'a VcpuSlot,
    fd: &'a VcpuFd,
    hidden: HiddenFlags,
    level: Level,
    registers: Cell<Option<kvm_regs>>,
    events: Cell<Option<kvm_vcpu_events>>,
}

/// Has KVM leave in the run page, at every exit, what is of interest at a breakpoint.
pub(super) fn sync_to_run_page(fd: &mut VcpuFd) {
    fd.set_sync_valid_reg(SyncReg::Register);
    fd.set_sync_valid_reg(SyncReg::VcpuEvents);
}

impl<'a> StoppedCpu<'a> {
    pub(super) fn new(
        slot: &'a VcpuSlot,
        fd: &'a VcpuFd,
        hidden: HiddenFlags,
        level: Level,
    ) -> Self {
        Self {
            slot,
            fd,
            hidden,
            level,
            registers: Cell::default(),
            events: Cell::default(),
        }
    }

    /// Just after the exit of a breakpoint at this address, with nothing done to the vCPU since: what
    /// is in the run page is believed if it says the same.
    pub(super) fn at_breakpoint(self, address: u64) -> Self {
        let page = self.fd.sync_regs();
        if page.regs.rip == address {
            self.registers.set(Some(page.regs));
            self.events.set(Some(page.events));
        }
        self
    }

    /// What it sees of memory.
    pub(super) fn memory(&self) -> PagedMemory<GuestRam<'a, GuestMemoryMmap>> {
        PagedMemory::new(
            self.slot.page_walk(self.level),
            GuestRam::new(self.slot.ram()),
        )
    }
}

impl Cpu for StoppedCpu<'_> {
    type Error = VmError;

    fn registers(&self) -> Result<Registers, VmError> {
        let known = match self.registers.get() {
            Some(known) => known,
            None => self.slot.guest_registers(self.fd)?,
        };
        self.registers.set(Some(known));
        let mut registers = Registers::from(&known);
        registers.rflags &= !self.hidden.mask;
        Ok(registers)
    }

    /// All our guests run in 64-bit mode with flat segments, and cannot get at debug registers.
    fn context(&self) -> Result<Context, VmError> {
        Ok(Context::long_mode(self.level.cpl()))
    }

    fn retire(&mut self, after: &Registers) -> Result<(), VmError> {
        let rflags = after.rflags | self.hidden.set;
        self.registers.set(None);
        self.slot
            .set_guest_registers(self.fd, &(&Registers { rflags, ..*after }).into())
    }
}

impl Vcpu for StoppedCpu<'_> {
    /// HLT is an exit in our VMs.
    fn is_halted(&self) -> Result<bool, VmError> {
        Ok(false)
    }

    /// Our guests are none of hypervisors, nor confidential.
    fn inaccessible(&self) -> Result<Option<Inaccessible>, VmError> {
        Ok(None)
    }

    fn has_event(&self) -> Result<bool, VmError> {
        let events = match self.events.get() {
            Some(known) => known,
            None => self.slot.events(self.fd)?,
        };
        self.events.set(Some(events));
        let any = [
            events.exception.injected,
            events.exception.pending,
            events.interrupt.injected,
        ];
        Ok(any.iter().any(|&flag| flag != 0))
    }

    /// The emulated kernel makes its threads really sleep.
    fn voluntary_context_switches(&self) -> Option<u64> {
        let usage = getrusage(UsageWho::RUSAGE_THREAD).ok()?;
        u64::try_from(usage.voluntary_context_switches()).ok()
    }
}

/// The breakpoints that the host's own trap leaves.
#[derive(Debug)]
pub(super) struct StoppedBreakpoints<'a> {
    pub(super) slot: &'a VcpuSlot,
    pub(super) fd: &'a VcpuFd,
    pub(super) trap: &'a mut Trap,
    pub(super) support: BreakpointSupport,
}

impl Breakpoints for StoppedBreakpoints<'_> {
    type Error = VmError;
    /// The address of the breakpoint.
    type Exit = u64;

    fn work_at(&self, cpl: u8) -> bool {
        self.trap.can_watch() && self.support.at(cpl).is_some()
    }

    /// None of our guests has any.
    fn guest_uses_debug_registers(&mut self) -> Result<bool, VmError> {
        Ok(false)
    }

    fn set(&mut self, addresses: &[Option<u64>; SLOTS]) -> Result<(), VmError> {
        let addresses = addresses.iter().flatten().copied();
        self.trap.watch(addresses, self.slot, self.fd)
    }

    fn step_over(&mut self) -> Result<(), VmError> {
        self.trap.step_over(self.slot, self.fd)
    }

    fn classify_exit(&mut self, address: u64) -> Result<DebugExit, VmError> {
        if !self.trap.lets_past() {
            return Ok(DebugExit::Breakpoint { address });
        }
        self.trap.end_step(self.slot, self.fd)?;
        Ok(DebugExit::SteppedOver)
    }
}
