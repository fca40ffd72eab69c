//! A vCPU's memory.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use kvm_ioctls::VcpuFd;
use vm_memory::bitmap::{Bitmap, BitmapSlice, MS};
use vm_memory::{GuestAddress, GuestMemoryBackend, VolatileMemory, VolatileSlice};

use super::KvmError;
use super::cpu::cpl;
use super::vcpu::StoppedVcpu;
use crate::memory::{AccessError, Memory};
use crate::paging::{PageWalk, PagedMemory, PagedPermit, Ram, RamSlice};

/// The memory of a vCPU of KVM.
///
/// `M` is the guest's RAM at the addresses where KVM has it: all of it readable, writable and
/// executable for the guest. Leave out what KVM was given as read-only; nobody can see from here that
/// it is.
#[derive(Debug)]
pub struct KvmMemory<'a, M> {
    vcpu: Rc<StoppedVcpu<'a>>,
    ram: &'a M,
    /// How the vCPU translates addresses, once that was needed.
    paged: Option<PagedMemory<KvmRam<'a, M>>>,
}

/// RAM that vm-memory knows.
///
/// It cannot ask a CPU: translations that depend on more than the page tables are refused.
#[derive(Debug)]
pub struct GuestRam<'a, M> {
    memory: &'a M,
    start: u64,
}

/// RAM, and a vCPU to ask about translations.
#[derive(Debug)]
struct KvmRam<'a, M> {
    vcpu: Rc<StoppedVcpu<'a>>,
    ram: GuestRam<'a, M>,
}

/// Some bytes of RAM that vm-memory knows.
#[derive(Debug)]
pub struct GuestRamSlice<'a, B: BitmapSlice>(VolatileSlice<'a, B>);

impl<'a, M: GuestMemoryBackend> KvmMemory<'a, M> {
    pub(super) fn new(vcpu: Rc<StoppedVcpu<'a>>, ram: &'a M) -> Self {
        Self {
            vcpu,
            ram,
            paged: None,
        }
    }

    fn paged(&mut self) -> Result<&mut PagedMemory<KvmRam<'a, M>>, KvmError> {
        let paged = match self.paged.take() {
            Some(paged) => paged,
            None => {
                let ram = KvmRam {
                    vcpu: Rc::clone(&self.vcpu),
                    ram: GuestRam::new(self.ram),
                };
                PagedMemory::new(self.walk()?, ram)
            }
        };
        Ok(self.paged.insert(paged))
    }

    /// No locked instruction changes what is in here.
    fn walk(&self) -> Result<PageWalk, KvmError> {
        let special = self.vcpu.special()?;
        let rflags = self.vcpu.registers()?.rflags;
        Ok(PageWalk {
            cr0: special.cr0,
            cr3: special.cr3,
            cr4: special.cr4,
            efer: special.efer,
            cpl: cpl(&special, rflags),
            rflags,
        })
    }
}

impl<'a, M: GuestMemoryBackend> Memory for KvmMemory<'a, M> {
    type Permit<'b>
        = PagedPermit<GuestRamSlice<'b, MS<'b, M>>>
    where
        Self: 'b;

    fn fetch(&mut self, address: u64, bytes: &mut [u8]) -> usize {
        self.paged()
            .map_or(0, |memory| memory.fetch(address, bytes))
    }

    fn load_for_update(
        &mut self,
        address: u64,
        bytes: &mut [u8],
    ) -> Result<Self::Permit<'_>, AccessError> {
        let on = "registers that KVM does not tell";
        self.paged()
            .map_err(|_| AccessError::Undecided { address, on })?
            .load_for_update(address, bytes)
    }
}

impl<'a, M: GuestMemoryBackend> GuestRam<'a, M> {
    /// RAM at the addresses that `memory` has.
    pub fn new(memory: &'a M) -> Self {
        Self { memory, start: 0 }
    }

    /// The guest finds address 0 of the memory at this physical address.
    #[must_use]
    pub fn starting_at(self, start: u64) -> Self {
        Self { start, ..self }
    }
}

impl<M: GuestMemoryBackend> Ram for GuestRam<'_, M> {
    type Slice<'b>
        = GuestRamSlice<'b, MS<'b, M>>
    where
        Self: 'b;

    fn slice(&self, address: u64, bytes: usize) -> Option<Self::Slice<'_>> {
        let address = GuestAddress(address.checked_sub(self.start)?);
        self.memory
            .get_slice(address, bytes)
            .ok()
            .map(GuestRamSlice)
    }

    fn load(&self, address: u64) -> Option<u64> {
        let word = self.slice(address, 8)?;
        let word = word.0.get_atomic_ref::<AtomicU64>(0).ok()?;
        Some(u64::from_le(word.load(Ordering::Acquire)))
    }

    fn compare_exchange(&self, address: u64, current: u64, new: u64) -> bool {
        let Some(slice) = self.slice(address, 8) else {
            return false;
        };
        let Ok(word) = slice.0.get_atomic_ref::<AtomicU64>(0) else {
            return false;
        };
        let (current, new) = (current.to_le(), new.to_le());
        let exchanged = word
            .compare_exchange(current, new, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if exchanged {
            // What is written through a reference is not seen by the one who migrates the VM.
            slice.0.bitmap().mark_dirty(0, 8);
        }
        exchanged
    }

    fn confirms(&self, _linear: u64, _physical: u64) -> bool {
        false
    }
}

impl<'a, M: GuestMemoryBackend> Ram for KvmRam<'a, M> {
    type Slice<'b>
        = <GuestRam<'a, M> as Ram>::Slice<'b>
    where
        Self: 'b;

    fn slice(&self, address: u64, bytes: usize) -> Option<Self::Slice<'_>> {
        self.ram.slice(address, bytes)
    }

    fn load(&self, address: u64) -> Option<u64> {
        self.ram.load(address)
    }

    fn compare_exchange(&self, address: u64, current: u64, new: u64) -> bool {
        self.ram.compare_exchange(address, current, new)
    }

    fn confirms(&self, linear: u64, physical: u64) -> bool {
        let translate = |fd: &VcpuFd| fd.translate_gva(linear);
        let result = self.vcpu.call("KVM_TRANSLATE", translate);
        result.is_ok_and(|at| at.valid != 0 && at.physical_address == physical)
    }
}

impl<B: BitmapSlice> RamSlice for GuestRamSlice<'_, B> {
    fn read(&self, bytes: &mut [u8]) {
        self.0.copy_to(bytes);
    }

    fn write(&self, bytes: &[u8]) {
        self.0.copy_from(bytes);
    }
}
