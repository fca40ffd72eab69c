//! The traits of this crate for vCPUs of KVM, by their file descriptors.
//!
//! * [`KvmVcpu`] stays with a vCPU. [`KvmVcpu::stopped`] is that vCPU between two runs, in the parts that a
//!   [`VcpuGuard`](crate::guard::VcpuGuard) wants.
//! * [`BreakpointSupport`] says whether breakpoints are of any use here.
//! * [`AsKvmFd`] is what has a file descriptor of KVM. With the feature `kvm-ioctls` its `Kvm` and `VcpuFd` are.
//! * [`LongMode`] is the state of a vCPU in 64-bit mode, for guests without an operating system.
//!
//! The guest's memory is any [`Ram`]; with the feature `vm-memory` there is
#![cfg_attr(
    feature = "vm-memory",
    doc = "[`GuestRam`](crate::guest_ram::GuestRam)."
)]
#![cfg_attr(not(feature = "vm-memory"), doc = "`GuestRam`.")]
//! What a VMM adds is shown, line by line, in [the guide](crate::integration).
//!
//! # What is left alone
//! * A nested guest: its registers and page tables are not those of this guest, whose memory it must not reach.
//! * System management mode, which sees other memory.
//! * A confidential guest, whose registers KVM does not tell (SEV-ES, SEV-SNP, TDX), or whose page tables point to
//!   encrypted memory at addresses where there is no RAM (SEV). A VMM that starts one knows it, and had better have no
//!   guard for it.
//!
//! # What KVM does not tell
//! - Which memory the guest may only read: do not put it into the `GuestMemory`.
//! - What the guest's PKRU says: see [`paging`](crate::paging).

mod breakpoints;
mod cpu;
mod debug_registers;
mod error;
mod long_mode;
mod memory;
mod scratch;
mod special;
mod support;
mod sys;
mod vcpu;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::guard::VcpuParts;
use crate::paging::Ram;
use crate::pause::Pause;

pub use breakpoints::KvmBreakpoints;
pub use cpu::KvmCpu;
pub use error::KvmError;
pub use long_mode::LongMode;
pub use memory::KvmMemory;
pub use support::{BreakpointSupport, StepOver};
pub use vcpu::KvmVcpu;

/// A vCPU of KVM that does not run, for its [`VcpuGuard`](crate::guard::VcpuGuard).
pub type KvmVcpuParts<'a, R, P> =
    VcpuParts<'a, KvmCpu<'a>, KvmMemory<'a, R>, P, KvmBreakpoints<'a>>;

/// What has a file descriptor of `/dev/kvm` or of a vCPU.
///
/// For bindings that are not known here, borrow the descriptor: [`BorrowedFd::borrow_raw`].
pub trait AsKvmFd {
    /// The descriptor.
    fn as_kvm_fd(&self) -> BorrowedFd<'_>;
}

impl AsKvmFd for BorrowedFd<'_> {
    fn as_kvm_fd(&self) -> BorrowedFd<'_> {
        *self
    }
}

impl AsKvmFd for OwnedFd {
    fn as_kvm_fd(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

impl AsKvmFd for File {
    fn as_kvm_fd(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

impl KvmVcpu {
    /// The vCPU, which does not run, for its [`VcpuGuard`](crate::guard::VcpuGuard). That costs nothing: it is asked when
    /// something has to be known, and for each thing once. So call this anew after each run.
    ///
    /// `ram` is the guest's memory at the addresses where KVM has it: all of it readable, writable and executable for the
    /// guest. After an exit of the kind "debug", hand it to the guard before anything else is done to the vCPU.
    pub fn stopped<'a, R: Ram, P: Pause>(
        &'a mut self,
        ram: R,
        others: &'a P,
    ) -> KvmVcpuParts<'a, R, P> {
        self.forget();
        let vcpu: &'a Self = self;
        VcpuParts {
            cpu: KvmCpu { vcpu },
            memory: KvmMemory::new(vcpu, ram),
            others,
            breakpoints: KvmBreakpoints { vcpu },
        }
    }
}
