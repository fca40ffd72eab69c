//! Memory that others have the addresses of.

use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use kvm_bindings::{
    kvm_dirty_log, kvm_enable_cap, kvm_guest_debug, kvm_userspace_memory_region,
    kvm_userspace_memory_region2,
};
use split_lock_assist::paging::{Ram, RamSlice, Translation};

use crate::slots::{Place, Slots};

/// What KVM is given by address, and any bytes are one.
pub(crate) trait Argument: Copy {}

impl Argument for kvm_userspace_memory_region {}
impl Argument for kvm_userspace_memory_region2 {}
impl Argument for kvm_dirty_log {}
impl Argument for kvm_enable_cap {}
impl Argument for kvm_guest_debug {}
impl Argument for SignalMask {}

/// The argument of a call that KVM has accepted. `None` if it had none.
pub(crate) fn read_argument<T: Argument>(address: usize) -> Option<T> {
    let address = ptr::with_exposed_provenance::<T>(address);
    // SAFETY: KVM has just read a T from this address for the VMM, whose memory it still is; any bytes are a T.
    (!address.is_null()).then(|| unsafe { address.read_unaligned() })
}

/// struct kvm_signal_mask with the set that the kernel wants.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct SignalMask {
    bytes: u32,
    set: [u8; 8],
}

impl SignalMask {
    /// The same without a signal, if it is in there.
    pub(crate) fn without(mut self, bit: u64) -> Option<Self> {
        let set = u64::from_ne_bytes(self.set);
        self.set = (set & !bit).to_ne_bytes();
        (set & bit != 0).then_some(self)
    }

    pub(crate) fn address(&self) -> usize {
        ptr::from_ref(self).expose_provenance()
    }
}

/// Adds pages to the answer of KVM_GET_DIRTY_LOG.
pub(crate) fn merge_dirty_pages(log: &kvm_dirty_log, pages: impl Iterator<Item = u64>) {
    // SAFETY: which of the two it is does not matter, since both are the same eight bytes.
    let address = unsafe { log.__bindgen_anon_1.padding2 } as usize;
    let bitmap = ptr::with_exposed_provenance_mut::<u8>(address);
    for page in pages {
        let byte = bitmap.wrapping_add((page / 8) as usize);
        // SAFETY: KVM has just written a bit for each page of the slot to this address, and `pages` are in the slot.
        let bits = unsafe { byte.read() };
        // SAFETY: as above.
        unsafe { byte.write(bits | 1 << (page % 8)) };
    }
}

/// The memory of a guest as its VMM has lent it to KVM.
///
/// All accesses are atomic or volatile: the guest and the VMM use it at the same time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GuestMemory<'a> {
    slots: &'a Slots,
}

/// Some bytes of it.
#[derive(Debug)]
pub(crate) struct GuestBytes<'a> {
    slots: &'a Slots,
    place: Place<'a>,
    bytes: usize,
}

impl<'a> GuestMemory<'a> {
    /// `slots` are locked for as long as this is in use: KVM has them, and the VMM has not been told that a slot that it
    /// takes away is gone.
    pub(crate) fn new(slots: &'a Slots) -> Self {
        Self { slots }
    }

    fn word(&self, address: u64) -> Option<(Place<'a>, &'a AtomicU64)> {
        let place = self.slots.find(address, 8)?;
        let word = ptr::with_exposed_provenance_mut::<u64>(place.host as usize);
        if !word.is_aligned() {
            return None;
        }
        // SAFETY: eight aligned bytes within memory that the VMM has lent to its guest (see `new`). Others access it as
        // well, which an atomic is for.
        Some((place, unsafe { AtomicU64::from_ptr(word) }))
    }
}

impl Ram for GuestMemory<'_> {
    type Slice<'b>
        = GuestBytes<'b>
    where
        Self: 'b;

    fn slice(&self, address: u64, bytes: usize) -> Option<GuestBytes<'_>> {
        let place = self.slots.find(address, bytes)?;
        Some(GuestBytes {
            slots: self.slots,
            place,
            bytes,
        })
    }

    fn load(&self, address: u64) -> Option<u64> {
        self.word(address)
            .map(|(_, word)| word.load(Ordering::Acquire))
    }

    fn compare_exchange(&self, address: u64, current: u64, new: u64) -> bool {
        let Some((place, word)) = self.word(address) else {
            return false;
        };
        let exchanged = word
            .compare_exchange(current, new, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if exchanged {
            self.slots.mark_written(&place, 8);
        }
        exchanged
    }

    fn confirms(&self, _linear: u64, translation: &Translation) -> bool {
        translation.is_plain()
    }
}

impl GuestBytes<'_> {
    fn start(&self) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.place.host as usize)
    }
}

impl RamSlice for GuestBytes<'_> {
    fn read(&self, bytes: &mut [u8]) {
        assert_eq!(bytes.len(), self.bytes, "as many as were asked for");
        for (n, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: `slice` has found as many bytes of the guest's memory there.
            *byte = unsafe { self.start().wrapping_add(n).read_volatile() };
        }
    }

    fn write(&self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.bytes, "as many as were read");
        for (n, &byte) in bytes.iter().enumerate() {
            // SAFETY: `slice` has found as many bytes of the guest's memory there, and they are still lent to it.
            unsafe { self.start().wrapping_add(n).write_volatile(byte) };
        }
        self.slots.mark_written(&self.place, self.bytes);
    }
}
