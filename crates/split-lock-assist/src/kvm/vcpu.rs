//! A vCPU between two runs: what was read of it once is not read again.

use std::cell::{Cell, RefCell};

use kvm_bindings::{kvm_debugregs, kvm_regs, kvm_sregs, kvm_vcpu_events};
use kvm_ioctls::{SyncReg, VcpuFd};

use super::KvmError;

/// What KVM can put into the run page at every exit.
const SYNCED: [SyncReg; 3] = [
    SyncReg::Register,
    SyncReg::SystemRegister,
    SyncReg::VcpuEvents,
];

/// A vCPU that cannot run while this exists, because running it needs the reference in here.
#[derive(Debug)]
pub(super) struct StoppedVcpu<'a> {
    fd: RefCell<&'a mut VcpuFd>,
    registers: Cell<Option<kvm_regs>>,
    special: Cell<Option<kvm_sregs>>,
    events: Cell<Option<kvm_vcpu_events>>,
    guest_breakpoints: Cell<Option<bool>>,
}

impl<'a> StoppedVcpu<'a> {
    pub(super) fn new(fd: &'a mut VcpuFd) -> Self {
        Self {
            fd: RefCell::new(fd),
            registers: Cell::default(),
            special: Cell::default(),
            events: Cell::default(),
            guest_breakpoints: Cell::default(),
        }
    }

    /// Takes from the run page what the last exit has left there. `rip` is where the vCPU is known
    /// to be, as a linear address: if the page says anything else, it is not believed.
    ///
    /// What the guest does with its debug registers is not in there: that is what it was when
    /// somebody last asked.
    pub(super) fn take_from_run_page(&self, rip: u64, guest_breakpoints: bool) {
        let page = self.fd.borrow().sync_regs();
        if page.sregs.cs.base.wrapping_add(page.regs.rip) == rip {
            self.registers.set(Some(page.regs));
            self.special.set(Some(page.sregs));
            self.events.set(Some(page.events));
            self.guest_breakpoints.set(Some(guest_breakpoints));
        }
    }

    /// Whether KVM is to leave registers in the run page at every exit.
    pub(super) fn sync_to_run_page(&self, sync: bool) {
        let mut fd = self.fd.borrow_mut();
        for registers in SYNCED {
            if sync {
                fd.set_sync_valid_reg(registers);
            } else {
                fd.clear_sync_valid_reg(registers);
            }
        }
    }

    pub(super) fn registers(&self) -> Result<kvm_regs, KvmError> {
        self.once(&self.registers, "KVM_GET_REGS", VcpuFd::get_regs)
    }

    pub(super) fn special(&self) -> Result<kvm_sregs, KvmError> {
        self.once(&self.special, "KVM_GET_SREGS", VcpuFd::get_sregs)
    }

    pub(super) fn events(&self) -> Result<kvm_vcpu_events, KvmError> {
        self.once(&self.events, "KVM_GET_VCPU_EVENTS", VcpuFd::get_vcpu_events)
    }

    pub(super) fn set_registers(&self, registers: &kvm_regs) -> Result<(), KvmError> {
        self.registers.set(None);
        self.call("KVM_SET_REGS", |fd| fd.set_regs(registers))?;
        self.registers.set(Some(*registers));
        Ok(())
    }

    pub(super) fn set_events(&self, events: &kvm_vcpu_events) -> Result<(), KvmError> {
        self.events.set(None);
        self.call("KVM_SET_VCPU_EVENTS", |fd| fd.set_vcpu_events(events))
    }

    pub(super) fn debug_registers(&self) -> Result<kvm_debugregs, KvmError> {
        self.call("KVM_GET_DEBUGREGS", VcpuFd::get_debug_regs)
    }

    /// Whether the guest has armed breakpoints of its own.
    pub(super) fn guest_breakpoints(&self) -> Result<bool, KvmError> {
        if let Some(known) = self.guest_breakpoints.get() {
            return Ok(known);
        }
        /// The bits of DR7 that arm one.
        const ARMED: u64 = 0xff;
        let armed = self.debug_registers()?.dr7 & ARMED != 0;
        self.guest_breakpoints.set(Some(armed));
        Ok(armed)
    }

    /// What is known of them is asked for again.
    pub(super) fn forget_guest_breakpoints(&self) {
        self.guest_breakpoints.set(None);
    }

    /// Any other call; it must not change what is remembered here.
    pub(super) fn call<T>(
        &self,
        name: &'static str,
        call: impl FnOnce(&VcpuFd) -> Result<T, kvm_ioctls::Error>,
    ) -> Result<T, KvmError> {
        call(&self.fd.borrow()).map_err(KvmError::on_vcpu(name))
    }

    fn once<T: Copy>(
        &self,
        known: &Cell<Option<T>>,
        name: &'static str,
        call: impl FnOnce(&VcpuFd) -> Result<T, kvm_ioctls::Error>,
    ) -> Result<T, KvmError> {
        if let Some(value) = known.get() {
            return Ok(value);
        }
        let value = self.call(name, call)?;
        known.set(Some(value));
        Ok(value)
    }
}
