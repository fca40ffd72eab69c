//! Physical memory that a test fills by hand.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use split_lock_assist::memory::{AccessError, Memory, WritePermit};
use split_lock_assist::paging::{PageWalk, PagedMemory, Ram, RamSlice, Translation};

pub(crate) const PRESENT: u64 = 1 << 0;
pub(crate) const WRITABLE: u64 = 1 << 1;
pub(crate) const USER: u64 = 1 << 2;
pub(crate) const ACCESSED: u64 = 1 << 5;
pub(crate) const DIRTY: u64 = 1 << 6;
pub(crate) const LARGE: u64 = 1 << 7;
pub(crate) const NO_EXECUTE: u64 = 1 << 63;
/// What most entries are.
pub(crate) const FREE: u64 = PRESENT | WRITABLE | USER;

/// Here and above there is no RAM.
pub(crate) const RAM_END: u64 = 1 << 40;

/// Words by address; what was never set is zero.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    words: RefCell<BTreeMap<u64, u64>>,
    /// What it says if it is asked about a translation; `None` if it must not be asked.
    pub(crate) confirms: Option<bool>,
    /// How many of the next changes of an entry find it changed by somebody else.
    pub(crate) disturbed: Cell<u32>,
}

impl Machine {
    pub(crate) fn with(entries: &[(u64, u64)]) -> Self {
        let machine = Machine::default();
        for &(address, value) in entries {
            machine.set(address, value);
        }
        machine
    }

    pub(crate) fn set(&self, address: u64, value: u64) {
        assert_eq!(address % 8, 0);
        self.words.borrow_mut().insert(address, value);
    }

    pub(crate) fn get(&self, address: u64) -> u64 {
        assert_eq!(address % 8, 0);
        self.words.borrow().get(&address).copied().unwrap_or(0)
    }

    /// All that is not zero.
    pub(crate) fn contents(&self) -> BTreeMap<u64, u64> {
        let mut contents = self.words.borrow().clone();
        contents.retain(|_, value| *value != 0);
        contents
    }

    /// Replaces bytes at a linear address by others. What was there before.
    pub(crate) fn update(
        &self,
        walk: PageWalk,
        address: u64,
        bytes: &[u8],
    ) -> Result<Vec<u8>, AccessError> {
        let mut before = vec![0; bytes.len()];
        let mut memory = PagedMemory::new(walk, self);
        memory
            .load_for_update(address, &mut before)
            .map(|permit| permit.store(bytes))?;
        Ok(before)
    }

    pub(crate) fn fetch(&self, walk: PageWalk, address: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let fetched = PagedMemory::new(walk, self).fetch(address, &mut bytes);
        bytes.truncate(fetched);
        bytes
    }
}

#[derive(Debug)]
pub(crate) struct Bytes<'a> {
    machine: &'a Machine,
    address: u64,
    count: usize,
}

impl Bytes<'_> {
    fn places(&self) -> impl Iterator<Item = (u64, u64)> {
        (self.address..)
            .take(self.count)
            .map(|address| (address & !7, 8 * (address & 7)))
    }
}

impl RamSlice for Bytes<'_> {
    fn read(&self, bytes: &mut [u8]) {
        assert_eq!(bytes.len(), self.count);
        for (byte, (word, shift)) in bytes.iter_mut().zip(self.places()) {
            *byte = (self.machine.get(word) >> shift) as u8;
        }
    }

    fn write(&self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.count);
        for (byte, (word, shift)) in bytes.iter().zip(self.places()) {
            let others = self.machine.get(word) & !(0xff << shift);
            self.machine.set(word, others | u64::from(*byte) << shift);
        }
    }
}

impl Ram for &Machine {
    type Slice<'a>
        = Bytes<'a>
    where
        Self: 'a;

    fn slice(&self, address: u64, bytes: usize) -> Option<Bytes<'_>> {
        let last_page = (address + bytes as u64 - 1) / 4096;
        assert_eq!(address / 4096, last_page, "a piece lies in one page");
        (address < RAM_END).then_some(Bytes {
            machine: self,
            address,
            count: bytes,
        })
    }

    fn load(&self, address: u64) -> Option<u64> {
        (address < RAM_END).then(|| self.get(address))
    }

    fn compare_exchange(&self, address: u64, current: u64, new: u64) -> bool {
        if self.disturbed.get() > 0 {
            self.disturbed.set(self.disturbed.get() - 1);
            return false;
        }
        let unchanged = self.get(address) == current;
        if unchanged {
            self.set(address, new);
        }
        unchanged
    }

    fn confirms(&self, _linear: u64, translation: &Translation) -> bool {
        self.confirms.unwrap_or_else(|| {
            assert!(translation.is_plain(), "the tables alone decide here");
            true
        })
    }
}
