//! [`Ram`] as `vm-memory` knows it.

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use vm_memory::bitmap::{Bitmap, BitmapSlice, MS};
use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryRegion, VolatileMemory, VolatileSlice,
};

use crate::paging::{Ram, RamSlice, Translation};

/// RAM that vm-memory knows.
///
/// Leave out what KVM was given as read-only; nobody can see from here that it is.
///
/// It cannot ask a CPU: translations that depend on more than the page tables are refused.
pub struct GuestRam<'a, M: GuestMemoryBackend> {
    memory: &'a M,
    start: u64,
    /// Where something was found last: page tables and what they lead to are mostly together.
    last: RefCell<Option<Region<'a, MS<'a, M>>>>,
}

/// A piece of memory, as a whole.
struct Region<'a, B: BitmapSlice> {
    /// The physical address of its first byte.
    start: u64,
    slice: VolatileSlice<'a, B>,
}

/// Some bytes of RAM that vm-memory knows.
#[derive(Debug)]
pub struct GuestRamSlice<'a, B: BitmapSlice>(VolatileSlice<'a, B>);

impl<'a, M: GuestMemoryBackend> GuestRam<'a, M> {
    /// RAM at the addresses that `memory` has.
    pub fn new(memory: &'a M) -> Self {
        Self {
            memory,
            start: 0,
            last: RefCell::default(),
        }
    }

    /// Does something in the piece of memory that has this address, at this offset.
    #[inline]
    fn at<T>(
        &self,
        address: u64,
        act: impl FnOnce(&VolatileSlice<'a, MS<'a, M>>, usize) -> Option<T>,
    ) -> Option<T> {
        let mut last = self.last.borrow_mut();
        let (region, offset) = self.region(&mut last, address)?;
        act(&region.slice, offset)
    }

    #[inline]
    fn region<'r>(
        &self,
        last: &'r mut Option<Region<'a, MS<'a, M>>>,
        address: u64,
    ) -> Option<(&'r Region<'a, MS<'a, M>>, usize)> {
        if last
            .as_ref()
            .and_then(|region| region.offset(address))
            .is_none()
        {
            *last = Some(self.find(address)?);
        }
        let region = last.as_ref()?;
        Some((region, region.offset(address)?))
    }

    #[cold]
    fn find(&self, address: u64) -> Option<Region<'a, MS<'a, M>>> {
        let memory: &'a M = self.memory;
        let region = memory.find_region(GuestAddress(address.checked_sub(self.start)?))?;
        Some(Region {
            start: region.start_addr().0.checked_add(self.start)?,
            slice: region.as_volatile_slice().ok()?,
        })
    }

    /// The guest finds address 0 of the memory at this physical address.
    #[must_use]
    pub fn starting_at(self, start: u64) -> Self {
        Self { start, ..self }
    }
}

impl<B: BitmapSlice> Region<'_, B> {
    #[inline]
    fn offset(&self, address: u64) -> Option<usize> {
        let offset = address.wrapping_sub(self.start) as usize;
        (offset < self.slice.len()).then_some(offset)
    }
}

#[inline]
fn load<B: BitmapSlice>(slice: &VolatileSlice<'_, B>, offset: usize) -> Option<u64> {
    let word = slice.get_atomic_ref::<AtomicU64>(offset).ok()?;
    Some(u64::from_le(word.load(Ordering::Acquire)))
}

impl<'a, M: GuestMemoryBackend> Ram for GuestRam<'a, M> {
    type Slice<'b>
        = GuestRamSlice<'a, MS<'a, M>>
    where
        Self: 'b;

    #[inline]
    fn slice(&self, address: u64, bytes: usize) -> Option<Self::Slice<'_>> {
        self.at(address, |slice, offset| slice.subslice(offset, bytes).ok())
            .map(GuestRamSlice)
    }

    #[inline]
    fn load(&self, address: u64) -> Option<u64> {
        self.at(address, load)
    }

    #[inline]
    fn holds(&self, words: &[(u64, u64)]) -> bool {
        let mut last = self.last.borrow_mut();
        words.iter().all(|&(address, value)| {
            let at = self.region(&mut last, address);
            at.and_then(|(region, offset)| load(&region.slice, offset)) == Some(value)
        })
    }

    fn compare_exchange(&self, address: u64, current: u64, new: u64) -> bool {
        let (current, new) = (current.to_le(), new.to_le());
        let exchange = |slice: &VolatileSlice<'a, MS<'a, M>>, offset| {
            let word = slice.get_atomic_ref::<AtomicU64>(offset).ok()?;
            word.compare_exchange(current, new, Ordering::AcqRel, Ordering::Relaxed)
                .ok()?;
            // What is written through a reference is not seen by the one who migrates the VM.
            slice.bitmap().mark_dirty(offset, 8);
            Some(())
        };
        self.at(address, exchange).is_some()
    }

    fn confirms(&self, _linear: u64, translation: &Translation) -> bool {
        translation.is_plain()
    }
}

impl<M: GuestMemoryBackend> fmt::Debug for GuestRam<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestRam")
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

impl<B: BitmapSlice> RamSlice for GuestRamSlice<'_, B> {
    #[inline]
    fn read(&self, bytes: &mut [u8]) {
        // What most operands have, at once.
        match (self.0.get_ref::<u32>(0), self.0.get_ref::<u64>(0)) {
            (Ok(word), _) if bytes.len() == 4 => bytes.copy_from_slice(&word.load().to_ne_bytes()),
            (_, Ok(word)) if bytes.len() == 8 => bytes.copy_from_slice(&word.load().to_ne_bytes()),
            _ => {
                self.0.copy_to(bytes);
            }
        }
    }

    #[inline]
    fn write(&self, bytes: &[u8]) {
        self.0.copy_from(bytes);
    }
}
