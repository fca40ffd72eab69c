//! A guest of KVM that is nothing but real-mode code, for the programs that run in the machine.

use anyhow::{Context, Result};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::sys;

/// Where the guest's code lies.
pub const CODE: u64 = 0x1000;

/// The only vCPU of a VM.
#[derive(Debug)]
pub struct RealModeVcpu {
    vcpu: VcpuFd,
    /// At guest address 0. Dropped after the vCPU, which nobody else has.
    memory: GuestMemoryMmap,
}

impl RealModeVcpu {
    /// Loads code that begins at [`CODE`] with this in RCX.
    ///
    /// # Errors
    /// If there is no KVM, or it refuses.
    pub fn new(code: &[u8], rcx: u64) -> Result<Self> {
        let vm = Kvm::new().context("no /dev/kvm")?.create_vm()?;
        let memory = sys::guest_memory(&vm)?;
        memory.write_slice(code, GuestAddress(CODE))?;
        let vcpu = vm.create_vcpu(0)?;
        let mut segments = vcpu.get_sregs()?;
        (segments.cs.base, segments.cs.selector) = (0, 0);
        vcpu.set_sregs(&segments)?;
        let mut registers = vcpu.get_regs()?;
        (registers.rip, registers.rcx, registers.rflags) = (CODE, rcx, 2);
        vcpu.set_regs(&registers)?;
        Ok(Self { vcpu, memory })
    }

    /// Until the next exit.
    ///
    /// # Errors
    /// If a signal interrupts it, or KVM fails.
    pub fn run(&mut self) -> Result<VcpuExit<'_>, kvm_ioctls::Error> {
        self.vcpu.run()
    }

    /// At guest address 0.
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }
}
