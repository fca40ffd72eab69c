//! An ordinary Linux kernel as a guest: the hang as people meet it, in a system that they know.
//!
//! A small PC with one CPU, its memory, the interrupt controllers and the timer that KVM has, and a
//! serial line. The kernel is a distribution's own; its first file system is the user's initrd, or
//! nothing, with one program on top of it that splits locks. The vCPU is bounded as those of the
//! measurements are, and a guard may look after it.
//!
//! Why the guest complains: a thread that never gets past one instruction is no problem for a kernel,
//! which goes on taking interrupts and scheduling others. It is one if the thread is a real-time one
//! that others have to wait for, as they do on systems for audio, telephony or packets. The kernel's
//! own thread that ends RCU's grace periods then never runs again, and the tick finds that out.
//!
//! * [`LinuxVm`]: the machine.
//! * [`Session`]: what goes on at its console, and what to type there. No I/O.
//! * [`Complaint`]: what the guest's kernel says about itself.
//! * [`PlainText`]: what it writes, made fit for a terminal.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config};
use kvm_ioctls::{Cap, Kvm, VmFd};
use split_lock_assist::guard::{Config, SplitInstruction, Stall, Statistics, VcpuGuard};
use split_lock_assist::kvm::BreakpointSupport;
use vm_memory::GuestMemoryMmap;

mod boot;
mod complaint;
mod cpuid;
mod devices;
mod error;
mod image;
mod initrd;
pub(crate) mod program;
mod session;
mod stall_detector;
mod text;
mod vcpu;

pub use complaint::Complaint;
pub use error::LinuxError;
pub use program::{PROGRAM, SPLIT_LOCKS};
pub use session::{ConsoleAction, Ending, LoggedComplaint, Session, SessionTimeouts, Stage};
pub use text::PlainText;

use crate::sys::RegisteredMemory;
use crate::vm::{REPORT, VmError, add_memory, create_vcpu, create_vm, failed, supported_cpuid};
use devices::Devices;
use image::Image;
use vcpu::Vcpu;

/// The guest's memory lies in one piece below the addresses that a PC has for other things.
pub const MOST_MEMORY: u64 = 3 << 30;

const MEMORY_SLOT: u32 = 0;
/// In errors.
const NAME: &str = "the Linux guest";

/// What every guest's kernel is told:
///
/// - where its console is, and to show there what is a warning or worse;
/// - to restart by a triple fault, which needs no device, at once after a panic;
/// - to complain about RCU after 3 s, which is the least, and not after 21;
/// - what its first process is.
const COMMAND_LINE: &str = "console=ttyS0 loglevel=5 8250.nr_uarts=1 reboot=t panic=-1 \
                            rcupdate.rcu_cpu_stall_timeout=3 rdinit=/splitlock/split";

/// What to boot.
#[derive(Debug, Clone)]
pub struct Boot {
    /// A bzImage.
    pub kernel: PathBuf,
    /// What the kernel unpacks first; a shell in it (`/bin/sh`) is started.
    pub initrd: Option<PathBuf>,
    /// The guest's memory; at most [`MOST_MEMORY`].
    pub memory_bytes: u64,
    /// More words for the kernel's command line.
    pub append: String,
}

/// What has been counted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Counts {
    /// Runs that lasted as long as they might.
    pub runs: u64,
    /// Exits for the sake of devices and breakpoints.
    pub exits: u64,
    /// Runs after which the vCPU was where it had been before, and its thread had hardly run.
    pub runs_without_progress: u64,
    /// Where it stood longest, if that was a split lock.
    pub longest_stall: Option<LongestStall>,
}

/// A split lock that a vCPU did not get past.
#[derive(Debug, Clone, PartialEq)]
pub struct LongestStall {
    /// The instruction.
    pub instruction: SplitInstruction,
    /// From when the vCPU was first found there to when it was last.
    pub time: Duration,
}

/// What the guest has done, beyond going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    GoesOn,
    /// A triple fault, by which it also restarts itself. It cannot be run any more.
    Reset,
}

/// A machine with a Linux kernel in it, bound to the thread that made it.
///
/// ```no_run
/// use std::path::Path;
/// use std::time::Duration;
/// use split_lock_repro::linux::{Boot, LinuxVm, PlainText, Step};
/// use split_lock_repro::vm::{KVM_DEVICE, open_kvm};
///
/// let kvm = open_kvm(Path::new(KVM_DEVICE))?;
/// let boot = Boot {
///     kernel: "/boot/vmlinuz".into(),
///     initrd: None,
///     memory_bytes: 256 << 20,
///     append: String::new(),
/// };
/// let mut guest = LinuxVm::new(&kvm, &boot, None)?;
/// let mut console = PlainText::default();
/// while guest.run(Duration::from_millis(1))? == Step::GoesOn {
///     print!("{}", console.add(&guest.take_output()));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct LinuxVm {
    vcpu: Vcpu,
    devices: Devices,
    memory: GuestMemoryMmap,
    release: String,
    // Taken from KVM after the vCPU is gone.
    _registered: RegisteredMemory,
}

impl LinuxVm {
    /// Puts everything in place, with a guard if there is a `guard` for one. Nothing runs yet.
    ///
    /// # Errors
    /// If a file is not what it should be, something does not fit, or KVM refuses.
    pub fn new(kvm: &Kvm, boot: &Boot, guard: Option<Config>) -> Result<Self, LinuxError> {
        let mut image = Image::open(&boot.kernel)?;
        let initrd = initrd::build(boot.initrd.as_deref(), boot.memory_bytes)?;
        let vm = machine(kvm)?;
        let registered = add_memory(&vm, MEMORY_SLOT, (NAME, NAME), 0, boot.memory_bytes)?;
        let memory = GuestMemoryMmap::from_arc_regions(vec![Arc::clone(registered.memory())])
            .expect("one region overlaps no other");
        let command_line = format!("{COMMAND_LINE} {}", boot.append);
        let start = boot::prepare(
            &memory,
            boot.memory_bytes,
            &mut image,
            &initrd,
            command_line.trim_end(),
        )?;
        let vcpu = "the Linux guest's vCPU";
        let cpuid = cpuid::for_guest(&supported_cpuid(kvm)?);
        let fd = create_vcpu(&vm, 0, vcpu, &cpuid, boot::special_registers)?;
        fd.set_regs(&start)
            .map_err(failed("KVM_SET_REGS", vcpu, REPORT))?;
        let support = match guard {
            Some(_) => BreakpointSupport::probe(kvm)?,
            None => BreakpointSupport::NONE,
        };
        Ok(Self {
            vcpu: Vcpu::new(fd, guard, support)?,
            devices: Devices::new(&vm),
            memory,
            release: image.release().to_owned(),
            _registered: registered,
        })
    }

    /// What the guest's kernel calls itself.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    /// Runs the guest for a while: as long as `quantum`, unless a guard knows better.
    ///
    /// # Errors
    /// If KVM cannot go on with it.
    pub fn run(&mut self, quantum: Duration) -> Result<Step, LinuxError> {
        self.devices.deliver_typed();
        self.vcpu.run(quantum, &mut self.devices, &self.memory)
    }

    /// What the guest has written to its console since this was last asked.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.devices.take_output()
    }

    /// Types something at the guest's console.
    pub fn enter(&mut self, text: &str) {
        self.devices.enter(text);
    }

    /// What has been counted so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.vcpu.counts
    }

    /// What the guard has done so far; `None` if there is none.
    #[must_use]
    pub fn statistics(&self) -> Option<&Statistics> {
        self.vcpu.guard.as_ref().map(VcpuGuard::statistics)
    }

    /// The instructions at which the guard has found the vCPU held up, each once, since this was last
    /// asked.
    pub fn take_new_stalls(&mut self) -> Vec<Stall> {
        std::mem::take(&mut self.vcpu.new_stalls)
    }
}

impl fmt::Debug for LinuxVm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinuxVm")
            .field("release", &self.release)
            .field("vcpu", &self.vcpu)
            .finish_non_exhaustive()
    }
}

/// A PC: two interrupt controllers and a timer, all of them KVM's.
fn machine(kvm: &Kvm) -> Result<Arc<VmFd>, VmError> {
    for (capability, name) in [
        (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
        (Cap::Pit2, "KVM_CAP_PIT2"),
    ] {
        if !kvm.check_extension(capability) {
            return Err(VmError::MissingCapability {
                name,
                purpose: "to be a PC for a Linux guest",
            });
        }
    }
    let vm = create_vm(kvm, NAME)?;
    vm.create_irq_chip()
        .map_err(failed("KVM_CREATE_IRQCHIP", NAME, REPORT))?;
    let timer = kvm_pit_config {
        // The port that a kernel calibrates its clock with.
        flags: KVM_PIT_SPEAKER_DUMMY,
        ..Default::default()
    };
    vm.create_pit2(timer)
        .map_err(failed("KVM_CREATE_PIT2", NAME, REPORT))?;
    Ok(vm)
}
