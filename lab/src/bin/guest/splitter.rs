//! Something that splits locks, in one of two ways.

use anyhow::{Context, Result, bail};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use split_lock_model::handler::TrapOrigin;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::lab_device::LabDevice;
use crate::sys;

/// A thread's own means.
#[derive(Debug)]
pub(crate) enum Splitter<'a> {
    User(&'a LabDevice),
    Guest(GuestCpu),
}

impl<'a> Splitter<'a> {
    /// `in_a_row`: split locks of a guest between two exits.
    pub(crate) fn new(origin: TrapOrigin, device: &'a LabDevice, in_a_row: u16) -> Result<Self> {
        Ok(match origin {
            TrapOrigin::User => Self::User(device),
            TrapOrigin::Guest => Self::Guest(GuestCpu::new(in_a_row)?),
        })
    }

    /// Tries once: a trap, or a split lock that meets no detection.
    pub(crate) fn try_once(&mut self) -> Result<()> {
        match self {
            Self::User(device) => device.split(),
            Self::Guest(guest) => guest.run(),
        }
    }
}

/// A vCPU whose guest does VMMCALL, which stands for a split lock, again and again.
#[derive(Debug)]
pub(crate) struct GuestCpu {
    vcpu: VcpuFd,
    /// Has to outlive the vCPU.
    _memory: GuestMemoryMmap,
    _vm: VmFd,
}

/// Where the guest's code lies.
const CODE: u64 = 0x1000;

impl GuestCpu {
    fn new(in_a_row: u16) -> Result<Self> {
        let vm = Kvm::new().context("no /dev/kvm")?.create_vm()?;
        let memory = sys::guest_memory(&vm)?;
        memory.write_slice(&code(in_a_row), GuestAddress(CODE))?;
        let vcpu = vm.create_vcpu(0)?;
        let mut segments = vcpu.get_sregs()?;
        (segments.cs.base, segments.cs.selector) = (0, 0);
        vcpu.set_sregs(&segments)?;
        let mut registers = vcpu.get_regs()?;
        (registers.rip, registers.rflags) = (CODE, 2);
        vcpu.set_regs(&registers)?;
        Ok(Self {
            vcpu,
            _memory: memory,
            _vm: vm,
        })
    }

    /// Until the guest's exit, or a signal.
    fn run(&mut self) -> Result<()> {
        match self.vcpu.run() {
            Ok(VcpuExit::IoOut(..)) => Ok(()),
            Ok(other) => bail!("the guest stopped with {other:?}"),
            Err(error) if error.errno() == libc::EINTR => Ok(()),
            Err(error) => Err(error).context("KVM_RUN failed"),
        }
    }
}

/// Real-mode code: so many times VMMCALL, then an exit; for ever.
fn code(in_a_row: u16) -> Vec<u8> {
    let [low, high] = in_a_row.to_le_bytes();
    vec![
        0xb9, low, high, // mov cx, in_a_row
        0x0f, 0x01, 0xd9, // 1: vmmcall
        0x49, // dec cx
        0x75, 0xfa, // jnz 1b
        0xe6, 0x10, // out 0x10, al
        0xeb, 0xf3, // jmp to the beginning
    ]
}
