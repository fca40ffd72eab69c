//! Gets a virtual machine past split locks without switching the host's protection off.
//!
//! Where the host makes split locks fault, a vCPU that is interrupted too often never gets past one.
//! This crate tells whether a vCPU is at one, and does the instruction in the CPU's place: with plain
//! accesses, while the other vCPUs are paused. It works for any VMM that can say what its vCPUs and
//! their memory are:
//!
//! ```
//! use split_lock_assist::cpu::{Context, CpuState, Gpr, Registers};
//! use split_lock_assist::decode::{Decoded, decode_next};
//! use split_lock_assist::emulate::{Emulated, emulate};
//! use split_lock_assist::memory::{AccessError, Memory, WritePermit};
//! use split_lock_assist::pause::SingleVcpu;
//!
//! /// All there is, from address 0 on.
//! struct Ram([u8; 256]);
//!
//! impl Memory for Ram {
//!     type Permit<'a> = Span<'a>;
//!
//!     fn fetch(&mut self, address: u64, bytes: &mut [u8]) -> usize {
//!         let rest = self.0.get(address as usize..).unwrap_or(&[]);
//!         let count = rest.len().min(bytes.len());
//!         bytes[..count].copy_from_slice(&rest[..count]);
//!         count
//!     }
//!
//!     fn load_for_update(&mut self, address: u64, bytes: &mut [u8]) -> Result<Span<'_>, AccessError> {
//!         let start = address as usize;
//!         let span = self
//!             .0
//!             .get_mut(start..start + bytes.len())
//!             .ok_or(AccessError::NotMapped { address })?;
//!         bytes.copy_from_slice(span);
//!         Ok(Span(span))
//!     }
//! }
//!
//! struct Span<'a>(&'a mut [u8]);
//!
//! impl WritePermit for Span<'_> {
//!     fn store(self, bytes: &[u8]) {
//!         self.0.copy_from_slice(bytes);
//!     }
//! }
//!
//! // At address 0: lock inc dword ptr [rsi]
//! let mut ram = Ram([0; 256]);
//! ram.0[..3].copy_from_slice(&[0xf0, 0xff, 0x06]);
//! let mut vcpu = CpuState {
//!     registers: Registers::default(),
//!     context: Context::long_mode(3),
//! };
//! vcpu.registers.set(Gpr::Rsi, 0x3e);
//!
//! let Ok(Decoded::Locked(access)) = decode_next(&vcpu, &mut ram) else {
//!     panic!("it locks");
//! };
//! assert!(access.crosses_line());
//! assert_eq!(emulate(&mut vcpu, &mut ram, &SingleVcpu), Ok(Emulated::Done(access)));
//! assert_eq!(vcpu.registers.rip, 3);
//! assert_eq!(ram.0[0x3e], 1);
//! ```
//!
//! What is left to the CPU, and where emulating is not the same as the CPU, is said in [`emulate`].
//!
//! # Modules
//!
//! * [`integration`]: the guide for a VMM, line by line.
//! * [`cpu`]: what has to be known of a vCPU, as plain data and as a trait.
//! * [`decode`]: whether an instruction locks, and where its operand lies.
//! * [`emulate`]: doing a locked instruction in the CPU's place.
//! * [`guard`]: noticing that a vCPU does not get on, and getting it on.
#![cfg_attr(feature = "vm-memory", doc = "* [`guest_ram`]: RAM for `vm-memory`.")]
#![cfg_attr(feature = "kvm", doc = "* [`kvm`]: the traits for vCPUs of KVM.")]
//! * [`memory`]: the guest's memory by linear address, as a trait.
//! * [`paging`]: from linear addresses to RAM, through page tables of any format.
//! * [`partial`]: whether an instruction can split a lock, if not all registers are known.
//! * [`pause`]: keeping the other vCPUs out of the guest, as a trait.
//! * [`breakpoint_slots`]: which instructions have a breakpoint.

pub mod breakpoint_slots;
pub mod cpu;
pub mod decode;
pub mod emulate;
pub mod guard;
#[cfg(feature = "vm-memory")]
pub mod guest_ram;
#[doc = include_str!("../integration.md")]
pub mod integration {}
#[cfg(feature = "kvm")]
pub mod kvm;
pub mod memory;
pub mod paging;
pub mod partial;
pub mod pause;
