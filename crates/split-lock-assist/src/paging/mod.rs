//! From linear addresses to RAM, as the CPU finds its way through the guest's page tables.
//!
//! * [`PageWalk`] translates one address, for one kind of access, and changes nothing.
//! * [`PagedMemory`] is [`Memory`](crate::memory::Memory) for a vCPU whose physical memory is a
//!   [`Ram`]. Nothing is marked or written where [`Ram::confirms`] does not agree.
//! * [`ConfirmedTranslations`] saves asking again, as long as the tables read the same.
//!
//! # What is refused rather than guessed
//! - Bits that are reserved on some CPUs, or reserved in the way KVM reads them: `Undecided`. Bits
//!   above the CPU's physical address width need no look of their own, because there is no RAM.
//! - A page with a protection key other than 0, where keys are switched on: what the guest's PKRU
//!   says is not looked at. So a guest that forbids itself key 0 is not understood.
//! - Page tables that are not in RAM, because the CPU would set bits in them.

mod bits;
mod confirmed;
mod format;
mod paged;
mod walk;

pub use confirmed::ConfirmedTranslations;
pub use paged::{PagedMemory, PagedPermit};
pub use walk::{Access, PageWalk, Translation};

/// The guest's RAM by physical address: what the guest can read, write and execute, and nothing
/// else. A part that the guest may only read does not belong to it.
pub trait Ram {
    /// A part of it.
    type Slice<'a>: RamSlice
    where
        Self: 'a;

    /// Bytes of which all lie in one piece of RAM; within one page of 4 KiB they do, if they are RAM.
    fn slice(&self, address: u64, bytes: usize) -> Option<Self::Slice<'_>>;

    /// Reads eight bytes at a multiple of eight at once.
    fn load(&self, address: u64) -> Option<u64>;

    /// Whether all of these words, at multiples of eight, have these values.
    fn holds(&self, words: &[(u64, u64)]) -> bool {
        let same = |&(address, value): &(u64, u64)| self.load(address) == Some(value);
        words.iter().all(same)
    }

    /// Replaces eight bytes at a multiple of eight at once, if they still are `current`. Returns
    /// whether they were.
    fn compare_exchange(&self, address: u64, current: u64, new: u64) -> bool;

    /// Whether the CPU finds this linear address where the tables say. Asked before anything is marked or
    /// written: a CPU may be in a state that nobody has told of. Who cannot ask it says
    /// [`Translation::is_plain`].
    fn confirms(&self, linear: u64, translation: &Translation) -> bool;

    /// Where to remember what was confirmed; nowhere, unless it is provided.
    fn confirmed(&self) -> Option<&ConfirmedTranslations> {
        None
    }
}

/// Some bytes of [`Ram`].
pub trait RamSlice {
    /// Copies all of it to as many bytes.
    fn read(&self, bytes: &mut [u8]);

    /// Replaces all of it by as many bytes.
    fn write(&self, bytes: &[u8]);
}
