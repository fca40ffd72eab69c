//! Something that splits locks, in one of two ways.

use anyhow::{Context, Result, bail};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use split_lock_model::handler::TrapOrigin;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::sys::{self, CrossingWord};

/// What came of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    /// The split lock is done.
    Completed,
    /// A signal came before it was.
    Interrupted,
    /// KVM gave up, with KVM_EXIT_EXCEPTION.
    Exception,
}

/// A thread's own means.
#[derive(Debug)]
pub(crate) enum Splitter {
    User(CrossingWord),
    Guest(GuestCpu),
}

impl Splitter {
    pub(crate) fn new(origin: TrapOrigin) -> Result<Self> {
        Ok(match origin {
            TrapOrigin::User => Self::User(CrossingWord::default()),
            TrapOrigin::Guest => Self::Guest(GuestCpu::new()?),
        })
    }

    /// Tries one split lock.
    pub(crate) fn try_once(&mut self) -> Result<Tried> {
        match self {
            Self::User(word) => Ok(match word.increment() {
                true => Tried::Completed,
                false => Tried::Interrupted,
            }),
            Self::Guest(guest) => guest.run(),
        }
    }
}

/// A vCPU whose guest splits locks.
#[derive(Debug)]
pub(crate) struct GuestCpu {
    vcpu: VcpuFd,
    /// Has to outlive the vCPU.
    _memory: GuestMemoryMmap,
    _vm: VmFd,
}

/// Where the guest's code lies.
const CODE: u64 = 0x1000;

/// Real-mode code: a split lock and an exit, for ever. The word at 0x203f lies in two lines.
const GUEST_CODE: [u8; 10] = [
    0xf0, 0x83, 0x06, 0x3f, 0x20, 0x01, // 1: lock add word [0x203f], 1
    0xe6, 0x10, // out 0x10, al
    0xeb, 0xf6, // jmp 1b
];

impl GuestCpu {
    fn new() -> Result<Self> {
        let vm = Kvm::new().context("no /dev/kvm")?.create_vm()?;
        let memory = sys::guest_memory(&vm)?;
        memory.write_slice(&GUEST_CODE, GuestAddress(CODE))?;
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
    fn run(&mut self) -> Result<Tried> {
        match self.vcpu.run() {
            Ok(VcpuExit::IoOut(..)) => Ok(Tried::Completed),
            Ok(VcpuExit::Exception) => Ok(Tried::Exception),
            Ok(other) => bail!("the guest stopped with {other:?}"),
            Err(error) if error.errno() == libc::EINTR => Ok(Tried::Interrupted),
            Err(error) => Err(error).context("KVM_RUN failed"),
        }
    }
}
