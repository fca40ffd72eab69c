//! The traits of this crate for [`kvm_ioctls::VcpuFd`], with guest memory as `vm-memory` knows it.
//!
//! * [`KvmCpu`], [`KvmMemory`] and [`KvmBreakpoints`] are views of a vCPU that does not run: they
//!   hold the only reference to it.
//! * [`GuestRam`] is the [`Ram`](crate::paging::Ram) for whoever walks page tables on behalf of somebody
//!   else.
//! * [`DebugRegisters`] stays with the vCPU; [`BreakpointSupport`] says whether they are of any use.
//! * [`LongMode`] is the state of a vCPU in 64-bit mode, for guests without an operating system.
//!
//! # What KVM does not tell
//! - Which memory the guest may only read: do not put it into the `GuestMemory`.
//! - What the guest's PKRU says: see [`paging`](crate::paging).

mod breakpoints;
mod cpu;
mod error;
mod long_mode;
mod memory;
mod scratch;
mod support;
mod sys;
mod vcpu;

use std::rc::Rc;

use kvm_ioctls::VcpuFd;
use vm_memory::GuestMemoryBackend;

use self::vcpu::StoppedVcpu;
use crate::guard::VcpuParts;
use crate::pause::Pause;

pub use breakpoints::{DebugRegisters, KvmBreakpoints};
pub use cpu::KvmCpu;
pub use error::KvmError;
pub use long_mode::LongMode;
pub use memory::{GuestRam, GuestRamSlice, KvmMemory};
pub use support::{BreakpointSupport, StepOver};

/// A vCPU of KVM that does not run, for its [`VcpuGuard`](crate::guard::VcpuGuard).
pub type KvmVcpuParts<'a, M, P> =
    VcpuParts<'a, KvmCpu<'a>, KvmMemory<'a, M>, P, KvmBreakpoints<'a>>;

/// Puts together what a [`VcpuGuard`](crate::guard::VcpuGuard) needs of a vCPU. That costs nothing: the
/// vCPU is asked when something has to be known, and for each thing once.
///
/// Make it anew after each run, on the thread that runs the vCPU. After an exit of the kind "debug",
/// hand it over before anything else is done to the vCPU: its registers are then taken from the run
/// page, as KVM left them there.
pub fn vcpu_parts<'a, M: GuestMemoryBackend, P: Pause>(
    vcpu: &'a mut VcpuFd,
    ram: &'a M,
    others: &'a P,
    debug_registers: &'a mut DebugRegisters,
) -> KvmVcpuParts<'a, M, P> {
    let vcpu = Rc::new(StoppedVcpu::new(vcpu));
    VcpuParts {
        cpu: KvmCpu::new(Rc::clone(&vcpu)),
        memory: KvmMemory::new(Rc::clone(&vcpu), ram),
        others,
        breakpoints: KvmBreakpoints::new(vcpu, debug_registers),
    }
}
