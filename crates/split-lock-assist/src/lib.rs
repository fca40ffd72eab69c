//! Gets a virtual machine past split locks without switching the host's protection off.
//!
//! * [`cpu`]: what has to be known of a vCPU, as plain data and as a trait.
//! * [`decode`]: whether an instruction locks, and where its operand lies.
//! * [`emulate`]: doing a locked instruction in the CPU's place.
//! * [`guard`]: noticing that a vCPU does not get on, and getting it on.
#![cfg_attr(feature = "kvm", doc = "* [`kvm`]: the traits for `kvm_ioctls`.")]
//! * [`memory`]: the guest's memory by linear address, as a trait.
//! * [`paging`]: from linear addresses to RAM, through page tables of any format.
//! * [`pause`]: keeping the other vCPUs out of the guest, as a trait.
//! * [`watch`]: which instructions have a breakpoint.

pub mod cpu;
pub mod decode;
pub mod emulate;
pub mod guard;
#[cfg(feature = "kvm")]
pub mod kvm;
pub mod memory;
pub mod paging;
pub mod pause;
pub mod watch;
