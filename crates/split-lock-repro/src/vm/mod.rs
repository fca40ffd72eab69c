//! The small VM that the guests run in: 64-bit mode, page tables, one piece of memory per vCPU and one
//! that all of them share, and no devices at all.

use std::sync::Arc;

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_regs};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use vm_memory::{Bytes, GuestMemoryError};

use crate::guest::{Guest, Level, Register};
use crate::sys::RegisteredMemory;

mod calibration;
mod error;
mod exit;
mod interrupt;
mod memory;
mod open;
mod page_tables;
pub(crate) mod segments;
mod slot;
pub(crate) mod trap;

pub use crate::layout::{ALIGNMENT_CHECK_PORT, STEPPED_PORT};
pub use calibration::work_rate;
pub use error::VmError;
pub use exit::{ExitCause, UnexpectedExit};
pub(crate) use interrupt::InterruptLine;
pub use open::{KVM_DEVICE, open_kvm};
pub use slot::VcpuSlot;

use crate::layout::{GDT, MAX_VCPUS, MEMORY_SIZE, PAGE_TABLES, PHYSICAL_STRIDE, TSS};
use memory::{Memory, shared_page};

/// Three pages that Intel CPUs without "unrestricted guest" need, out of everybody's way.
pub(crate) const REAL_MODE_TSS: usize = 0xfffb_d000;

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
        let fd = kvm
            .create_vm()
            .map_err(failed("KVM_CREATE_VM", "KVM", NO_VM))?;
        fd.set_tss_address(REAL_MODE_TSS)
            .map_err(failed("KVM_SET_TSS_ADDR", "the VM", REPORT))?;
        let cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(failed("KVM_GET_SUPPORTED_CPUID", "KVM", REPORT))?;
        let fd = Arc::new(fd);
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
        let place = self.add_place(pieces, Level::Cpl0, exceptions)?;
        place.slot(start, Register::default())
    }

    fn add(
        &mut self,
        guest: &Guest,
        level: Level,
        exceptions: Exceptions,
    ) -> Result<Vcpu, VmError> {
        let pieces = [(guest.load_address(), guest.code())];
        let mut place = self.add_place(&pieces, level, exceptions)?;
        let rate = || calibration::calibrate(&mut place.fd, guest, level);
        let start = guest.start_registers(rate)?;
        place.slot(start, guest.counter())
    }

    fn add_place(
        &mut self,
        pieces: &[(u64, &[u8])],
        level: Level,
        exceptions: Exceptions,
    ) -> Result<Place, VmError> {
        let number = self.vcpus;
        if number >= self.max_vcpus {
            return Err(VmError::TooManyVcpus {
                limit: self.max_vcpus,
            });
        }
        let memory = self.add_memory(number, pieces)?;
        let fd = self.add_fd(number, level, exceptions)?;
        self.vcpus += 1;
        Ok(Place {
            number,
            memory,
            fd,
            exceptions,
        })
    }

    fn add_memory(&self, number: u64, pieces: &[(u64, &[u8])]) -> Result<Memory, VmError> {
        let memory = Memory::new(&self.fd, number, &self.shared)?;
        let base = number * PHYSICAL_STRIDE;
        load(&memory, base, pieces).map_err(|error| VmError::Memory {
            of: format!("vCPU {number}"),
            bytes: MEMORY_SIZE,
            why: error.to_string(),
        })?;
        Ok(memory)
    }

    fn add_fd(&self, number: u64, level: Level, exceptions: Exceptions) -> Result<VcpuFd, VmError> {
        let on = || format!("vCPU {number}");
        let fd = self
            .fd
            .create_vcpu(number)
            .map_err(failed("KVM_CREATE_VCPU", on(), NO_VM))?;
        // Before the special registers: KVM checks those against what the CPU is said to have.
        fd.set_cpuid2(&self.cpuid)
            .map_err(failed("KVM_SET_CPUID2", on(), REPORT))?;
        let reset = fd
            .get_sregs()
            .map_err(failed("KVM_GET_SREGS", on(), REPORT))?;
        let base = number * PHYSICAL_STRIDE;
        let sregs = segments::long_mode(reset, base, level);
        let sregs = match exceptions {
            Exceptions::Fatal => sregs,
            Exceptions::ExitOnAlignmentCheck | Exceptions::OfTasks { .. } => {
                trap::checking_alignment(sregs)
            }
        };
        fd.set_sregs(&sregs)
            .map_err(failed("KVM_SET_SREGS", on(), REPORT))?;
        Ok(fd)
    }
}

/// A vCPU whose general registers are still to be set.
struct Place {
    number: u64,
    memory: Memory,
    fd: VcpuFd,
    exceptions: Exceptions,
}

impl Place {
    fn slot(self, start: kvm_regs, counter: Register) -> Result<Vcpu, VmError> {
        let on = format!("vCPU {}", self.number);
        self.fd
            .set_regs(&start)
            .map_err(failed("KVM_SET_REGS", on, REPORT))?;
        let slot = VcpuSlot::new(self.number, self.memory, start, counter, self.exceptions);
        Ok(Vcpu { fd: self.fd, slot })
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

/// Puts `pieces` into memory, and everything that 64-bit mode needs.
fn load(memory: &Memory, base: u64, pieces: &[(u64, &[u8])]) -> Result<(), GuestMemoryError> {
    let little_endian =
        |words: &[u64]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    let system = [
        (GDT, little_endian(&segments::descriptor_table())),
        (TSS, segments::task_state()),
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

pub(crate) const NO_VM: &str =
    "look in the kernel log for the reason, and whether another hypervisor holds the CPU";
const FEWER_FILES: &str = "raise `ulimit -n`, or ask for fewer vCPUs or guests at once";
/// "Too many open files", on every Linux.
const EMFILE: i32 = 24;
pub(crate) const REPORT: &str = "please report this with the kernel's version and the CPU's model";

/// Turns KVM's errno into a sentence.
pub(crate) fn failed(
    call: &'static str,
    on: impl Into<String>,
    advice: &'static str,
) -> impl FnOnce(kvm_ioctls::Error) -> VmError {
    let on = on.into();
    move |error| VmError::Call {
        call,
        on,
        advice: match error.errno() {
            EMFILE => FEWER_FILES,
            _ => advice,
        },
        source: error.into(),
    }
}
