//! The small VM that the guests run in: 64-bit mode, page tables, one piece of memory per vCPU and one
//! that all of them share, and no devices at all.

use std::sync::Arc;

use kvm_bindings::{CpuId, kvm_regs, kvm_sregs};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use split_lock_assist::kvm::LongMode;
use vm_memory::{Bytes, GuestMemoryError};

use crate::guest::{Guest, Level, Register};
use crate::sys::RegisteredMemory;

mod calibration;
mod calls;
mod error;
mod exit;
mod interrupt;
mod memory;
mod open;
mod page_tables;
mod slot;
pub(crate) mod trap;

pub use crate::layout::{ALIGNMENT_CHECK_PORT, STEPPED_PORT};
pub use calibration::work_rate;
pub(crate) use calls::{REPORT, add_memory, create_vcpu, create_vm, failed, supported_cpuid};
pub use error::VmError;
pub use exit::{ExitCause, UnexpectedExit};
pub(crate) use interrupt::InterruptLine;
pub use open::{KVM_DEVICE, open_kvm};
pub use slot::VcpuSlot;

use crate::layout::{
    EXCEPTION_STACK_TOP, GDT, MAX_VCPUS, MEMORY_SIZE, PAGE_TABLES, PHYSICAL_STRIDE, TSS, TSS_RSP0,
};
use memory::{Memory, shared_page};

/// A virtual machine, to which vCPUs are added.
///
/// ```no_run
/// use std::path::Path;
/// use split_lock_repro::guest::{BuiltIn, Kind, Level};
/// use split_lock_repro::vm::{KVM_DEVICE, Vm, open_kvm};
///
/// let kvm = open_kvm(Path::new(KVM_DEVICE))?;
/// let mut vm = Vm::new(&kvm)?;
/// let bystander = vm.add_vcpu(&BuiltIn::new(Kind::Aligned, None)?.into(), Level::Cpl3)?;
/// let splitter = vm.add_vcpu(&BuiltIn::new(Kind::Split, None)?.into(), Level::Cpl3)?;
/// // Run `bystander.fd` and `splitter.fd`, each on a thread of its own, then:
/// let turns = bystander.slot.turns(&bystander.fd)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Vm {
    fd: Arc<VmFd>,
    shared: Arc<RegisteredMemory>,
    cpuid: CpuId,
    max_vcpus: u64,
    vcpus: u64,
}

/// A vCPU with its guest loaded, about to run the guest's first instruction.
#[derive(Debug)]
pub struct Vcpu {
    /// KVM's side of it, to be run by whoever has it.
    pub fd: VcpuFd,
    /// Its memory and the meaning of its registers. Once this is dropped, the vCPU has no memory of its
    /// own.
    pub slot: VcpuSlot,
}

impl Vm {
    /// An empty VM.
    ///
    /// # Errors
    /// The call that failed.
    pub fn new(kvm: &Kvm) -> Result<Self, VmError> {
        let fd = create_vm(kvm, "the VM")?;
        let cpuid = supported_cpuid(kvm)?;
        Ok(Self {
            shared: shared_page(&fd)?,
            fd,
            cpuid,
            max_vcpus: (kvm.get_max_vcpus() as u64).min(MAX_VCPUS),
            vcpus: 0,
        })
    }

    /// Adds a vCPU with memory of its own, in which `guest` is loaded. The first guest that works
    /// between its split locks runs for about 100 ms before that: see [`work_rate`].
    ///
    /// # Errors
    /// The call that failed, or the limit that was reached.
    pub fn add_vcpu(&mut self, guest: &Guest, level: Level) -> Result<Vcpu, VmError> {
        self.add(guest, level, Exceptions::Fatal)
    }

    /// The same at CPL3, where each misaligned access while EFLAGS.AC is set becomes an exit: a write
    /// to [`ALIGNMENT_CHECK_PORT`] before the access. The guest begins with AC clear.
    ///
    /// # Errors
    /// The call that failed, or the limit that was reached.
    pub fn add_vcpu_that_checks_alignment(&mut self, guest: &Guest) -> Result<Vcpu, VmError> {
        self.add(guest, Level::Cpl3, Exceptions::ExitOnAlignmentCheck)
    }

    /// Adds a vCPU that boots a kernel of its own, with memory of its own in which `pieces` are loaded.
    /// Misaligned accesses of its tasks are as in [`Vm::add_vcpu_that_checks_alignment`]; AC of all of
    /// them is in the word at `extra_flags`.
    pub(crate) fn add_kernel(
        &mut self,
        pieces: &[(u64, &[u8])],
        start: kvm_regs,
        extra_flags: u64,
    ) -> Result<Vcpu, VmError> {
        let exceptions = Exceptions::OfTasks { extra_flags };
        self.add_vcpu_with(pieces, Level::Cpl0, exceptions, |_| {
            Ok((start, Register::default()))
        })
    }

    fn add(
        &mut self,
        guest: &Guest,
        level: Level,
        exceptions: Exceptions,
    ) -> Result<Vcpu, VmError> {
        let pieces = [(guest.load_address(), guest.code())];
        self.add_vcpu_with(&pieces, level, exceptions, |fd| {
            let start = guest.start_registers(|| calibration::calibrate(fd, guest, level))?;
            Ok((start, guest.counter()))
        })
    }

    /// `start` says with which registers the vCPU starts, and in which of them its guest counts.
    fn add_vcpu_with(
        &mut self,
        pieces: &[(u64, &[u8])],
        level: Level,
        exceptions: Exceptions,
        start: impl FnOnce(&mut VcpuFd) -> Result<(kvm_regs, Register), VmError>,
    ) -> Result<Vcpu, VmError> {
        let number = self.vcpus;
        if number >= self.max_vcpus {
            return Err(VmError::TooManyVcpus {
                limit: self.max_vcpus,
            });
        }
        let name = format!("vCPU {number}");
        let memory = Memory::new(&self.fd, number, &self.shared)?;
        let base = number * PHYSICAL_STRIDE;
        load(&memory, base, pieces).map_err(|error| VmError::Memory {
            of: name.clone(),
            bytes: MEMORY_SIZE,
            why: error.to_string(),
        })?;
        let mut fd = create_vcpu(&self.fd, number, &name, &self.cpuid, |reset| {
            let sregs = special_registers(reset, base, level);
            match exceptions {
                Exceptions::Fatal => sregs,
                Exceptions::ExitOnAlignmentCheck | Exceptions::OfTasks { .. } => {
                    trap::checking_alignment(sregs)
                }
            }
        })?;
        self.vcpus += 1;
        let (start, counter) = start(&mut fd)?;
        fd.set_regs(&start)
            .map_err(failed("KVM_SET_REGS", name, REPORT))?;
        let slot = VcpuSlot::new(number, memory, start, counter, exceptions);
        Ok(Vcpu { fd, slot })
    }
}

/// What becomes of an exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exceptions {
    /// There is no descriptor for it: a triple fault.
    Fatal,
    /// The same, but for #AC and #DB: see [`trap`].
    ExitOnAlignmentCheck,
    /// The same for the tasks of a kernel, which gives each of them AC as it finds it in this word.
    OfTasks { extra_flags: u64 },
}

/// Where a vCPU whose memory begins at this physical address has its tables.
pub(crate) fn long_mode(base: u64) -> LongMode {
    LongMode {
        page_tables: base + PAGE_TABLES,
        descriptors: GDT,
        task: TSS,
    }
}

/// With SSE enabled; `reset` is what KVM had in them.
fn special_registers(reset: kvm_sregs, base: u64, level: Level) -> kvm_sregs {
    const CR4_SSE: u64 = 1 << 9 | 1 << 10;
    let sregs = long_mode(base).special_registers(reset, level.cpl());
    kvm_sregs {
        cr4: sregs.cr4 | CR4_SSE,
        ..sregs
    }
}

/// Puts `pieces` into memory, and everything that 64-bit mode needs.
fn load(memory: &Memory, base: u64, pieces: &[(u64, &[u8])]) -> Result<(), GuestMemoryError> {
    let little_endian =
        |words: &[u64]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    let system = [
        (GDT, little_endian(&long_mode(base).descriptors())),
        (TSS + TSS_RSP0, EXCEPTION_STACK_TOP.to_le_bytes().to_vec()),
        (PAGE_TABLES, little_endian(&page_tables::page_tables(base))),
    ];
    for (address, bytes) in system.into_iter().chain(trap::pieces()) {
        memory.physical().write_slice(&bytes, memory.at(address))?;
    }
    for &(address, bytes) in pieces {
        memory.physical().write_slice(bytes, memory.at(address))?;
    }
    Ok(())
}
