//! Per-vCPU memory and start state, and where its guest counts.

use kvm_bindings::{kvm_guest_debug, kvm_regs, kvm_sregs, kvm_vcpu_events};
use kvm_ioctls::VcpuFd;
use split_lock_assist::cpu::rflags;
use split_lock_assist::paging::PageWalk;
use vm_memory::{Bytes, GuestMemoryMmap};

use super::exit::{ExitCause, UnexpectedExit};
use super::memory::Memory;
use super::trap::{
    ABOUT_TO_RETURN_RIP, ABOUT_TO_RETURN_RSP, FRAME_RFLAGS, FRAME_RIP, FRAME_RSP, is_in_handler,
};
use super::{Exceptions, REPORT, VmError, failed, special_registers};
use crate::guest::{Level, Register};
use crate::layout::PHYSICAL_STRIDE;
use crate::sys;

const EFER_LONG_MODE_ACTIVE: u64 = 1 << 10;

/// The longest x86 instruction, in bytes.
const LONGEST_INSTRUCTION: usize = 15;

/// Everything about a vCPU but the file descriptor, which may be elsewhere while it runs: the calls
/// here borrow it.
#[derive(Debug)]
pub struct VcpuSlot {
    vcpu: u64,
    memory: Memory,
    start: kvm_regs,
    counter: Register,
    exceptions: Exceptions,
}

const FRAME: [u64; 3] = [FRAME_RIP, FRAME_RFLAGS, FRAME_RSP];
const OWN_MEMORY: &str = "all of a vCPU's memory is there";

impl VcpuSlot {
    pub(super) fn new(
        vcpu: u64,
        memory: Memory,
        start: kvm_regs,
        counter: Register,
        exceptions: Exceptions,
    ) -> Self {
        Self {
            vcpu,
            memory,
            start,
            counter,
            exceptions,
        }
    }

    /// Which vCPU of its VM, from 0.
    #[must_use]
    pub fn vcpu(&self) -> u64 {
        self.vcpu
    }

    /// Puts the general registers back to what they were before the first instruction, so that the
    /// next run counts from zero.
    ///
    /// That is one system call (KVM_SET_REGS) before a run. Reading the counter before and after
    /// would cost as many and be less honest: a run would begin wherever the last one was cut off,
    /// perhaps in the middle of a guest's preparations. Memory, segments, control and vector
    /// registers stay as the guest left them, because setting those anew makes KVM forget its
    /// translations, and the next run would pay for it. None of the built-in guests changes them.
    ///
    /// Any I/O of the last exit must be completed first, and a vCPU that was shut down cannot be
    /// brought back.
    ///
    /// # Errors
    /// If KVM_SET_REGS fails.
    pub fn reset(&self, fd: &VcpuFd) -> Result<(), VmError> {
        match self.exceptions {
            Exceptions::ExitOnAlignmentCheck => self.set_guest_registers(fd, &self.start),
            // A kernel boots again, whatever it was about to return to.
            Exceptions::Fatal | Exceptions::OfTasks { .. } => self.set_registers(fd, &self.start),
        }
    }

    /// The general registers as the guest would see them at its next instruction: while it is in the
    /// handler of an exception, those that the handler will return with.
    ///
    /// Any I/O of the last exit must be completed first.
    ///
    /// # Errors
    /// If KVM_GET_REGS fails.
    pub fn guest_registers(&self, fd: &VcpuFd) -> Result<kvm_regs, VmError> {
        let now = self.registers(fd)?;
        Ok(match self.handler_frame(&now) {
            Some([rip, rflags, rsp]) => kvm_regs {
                rip,
                rflags,
                rsp,
                ..now
            },
            None => now,
        })
    }

    /// Sets what [`VcpuSlot::guest_registers`] gets, and leaves the handler of an exception where it is.
    /// Where a kernel has several tasks, all of them get AC as it is set.
    ///
    /// # Errors
    /// If KVM_GET_REGS or KVM_SET_REGS fails.
    pub fn set_guest_registers(&self, fd: &VcpuFd, to: &kvm_regs) -> Result<(), VmError> {
        if let Exceptions::OfTasks { extra_flags } = self.exceptions {
            self.write_word(extra_flags, to.rflags & rflags::ALIGNMENT_CHECK);
        }
        if self.exceptions == Exceptions::Fatal {
            return self.set_registers(fd, to);
        }
        let now = self.registers(fd)?;
        if self.handler_frame(&now).is_none() {
            return self.set_registers(fd, to);
        }
        for (address, value) in FRAME.into_iter().zip([to.rip, to.rflags, to.rsp]) {
            self.write_word(address, value);
        }
        let returning = kvm_regs {
            rip: ABOUT_TO_RETURN_RIP,
            rsp: ABOUT_TO_RETURN_RSP,
            rflags: now.rflags,
            ..*to
        };
        self.set_registers(fd, &returning)
    }

    pub(crate) fn events(&self, fd: &VcpuFd) -> Result<kvm_vcpu_events, VmError> {
        fd.get_vcpu_events()
            .map_err(failed("KVM_GET_VCPU_EVENTS", self.name(), REPORT))
    }

    /// Sets the guest's debug registers from outside.
    pub(crate) fn set_guest_debug(
        &self,
        fd: &VcpuFd,
        debug: &kvm_guest_debug,
    ) -> Result<(), VmError> {
        fd.set_guest_debug(debug)
            .map_err(failed("KVM_SET_GUEST_DEBUG", self.name(), REPORT))
    }

    /// RIP, RFLAGS and RSP that the guest's handler will return with, if it is in one.
    fn handler_frame(&self, now: &kvm_regs) -> Option<[u64; 3]> {
        let has_handlers = self.exceptions != Exceptions::Fatal;
        let word = |address| {
            let word = self.memory.physical().read_obj(self.memory.at(address));
            word.expect(OWN_MEMORY)
        };
        (has_handlers && is_in_handler(now.rip)).then(|| FRAME.map(word))
    }

    fn write_word(&self, address: u64, value: u64) {
        let at = self.memory.at(address);
        let written = self.memory.physical().write_obj(value, at);
        written.expect(OWN_MEMORY);
    }

    fn registers(&self, fd: &VcpuFd) -> Result<kvm_regs, VmError> {
        fd.get_regs()
            .map_err(failed("KVM_GET_REGS", self.name(), REPORT))
    }

    fn set_registers(&self, fd: &VcpuFd, to: &kvm_regs) -> Result<(), VmError> {
        fd.set_regs(to)
            .map_err(failed("KVM_SET_REGS", self.name(), REPORT))
    }

    /// How many turns the guest has made since its start or [`VcpuSlot::reset`].
    ///
    /// # Errors
    /// If KVM_GET_REGS fails.
    pub fn turns(&self, fd: &VcpuFd) -> Result<u64, VmError> {
        let now = self.registers(fd)?;
        let start = self.counter.read(&self.start);
        Ok(self.counter.read(&now).wrapping_sub(start))
    }

    /// The `N` bytes at a guest address, its own or shared; `None` if there is no memory for all of
    /// them.
    #[must_use]
    pub fn read<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.memory
            .physical()
            .read_slice(&mut bytes, self.memory.at(address))
            .ok()?;
        Some(bytes)
    }

    /// All memory that the vCPU can reach, by physical address.
    pub(crate) fn ram(&self) -> &GuestMemoryMmap {
        self.memory.physical()
    }

    /// How the vCPU finds it at this level, as long as it has made no page tables of its own.
    pub(crate) fn page_walk(&self, level: Level) -> PageWalk {
        let sregs = special_registers(kvm_sregs::default(), self.memory.base(), level);
        PageWalk {
            cr0: sregs.cr0,
            cr3: sregs.cr3,
            cr4: sregs.cr4,
            efer: sregs.efer,
            cpl: level.cpl(),
            rflags: 0,
        }
    }

    /// Says what an exit was that this guest should not have made, and where. Call it before the
    /// vCPU runs again.
    pub fn unexpected_exit(&self, fd: &mut VcpuFd, cause: ExitCause) -> UnexpectedExit {
        let cause = match cause {
            ExitCause::InternalError { .. } => ExitCause::InternalError {
                number: sys::internal_error(fd),
            },
            cause => cause.with_guest_address(self.vcpu * PHYSICAL_STRIDE),
        };
        let rip = instruction_pointer(fd);
        UnexpectedExit {
            vcpu: self.vcpu,
            cause,
            rip,
            bytes: rip
                .map(|rip| self.instruction_bytes(rip))
                .unwrap_or_default(),
        }
    }

    /// Correct as long as the guest has made no page tables of its own.
    pub(crate) fn instruction_bytes(&self, rip: u64) -> Vec<u8> {
        let mut bytes = vec![0; LONGEST_INSTRUCTION];
        let read = self.memory.physical().read(&mut bytes, self.memory.at(rip));
        bytes.truncate(read.unwrap_or(0));
        bytes
    }

    fn name(&self) -> String {
        format!("vCPU {}", self.vcpu)
    }
}

/// `None` if it means nothing: some CPUs lose all state in a shutdown, and KVM then shows that of a
/// CPU just switched on.
fn instruction_pointer(fd: &VcpuFd) -> Option<u64> {
    let in_long_mode = fd.get_sregs().ok()?.efer & EFER_LONG_MODE_ACTIVE != 0;
    let registers = fd.get_regs().ok()?;
    in_long_mode.then_some(registers.rip)
}
