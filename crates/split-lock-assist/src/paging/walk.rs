//! Translating one linear address.

use super::Ram;
use super::bits::{
    ACCESSED, CR0_PAGING, CR0_WRITE_PROTECT, CR4_FIVE_LEVELS, CR4_LARGE_PAGES, CR4_PAE, CR4_SMAP,
    CR4_SMEP, CR4_SUPERVISOR_KEYS, CR4_USER_KEYS, DIRTY, EFER_LONG_MODE_ACTIVE, EFER_NO_EXECUTE,
    NO_EXECUTE, PRESENT, PROTECTION_KEY, USER, WRITABLE,
};
use super::format::{Format, LONG_MODE_48, LONG_MODE_57, Level, PAE, TWO_LEVELS};
use crate::cpu::rflags;
use crate::memory::AccessError;

const MAX_LEVELS: usize = 5;
const HUGE_PAGE_BYTES: u64 = 1 << 30;

/// Everything that decides how a vCPU translates an address, apart from the tables.
///
/// ```
/// use split_lock_assist::paging::{Access, PageWalk};
/// # use split_lock_assist::paging::Ram;
/// # fn example(ram: &impl Ram) -> Result<(), split_lock_assist::memory::AccessError> {
/// let user_in_64_bit_mode = PageWalk {
///     cr0: 0x8001_0001,
///     cr3: 0x1000,
///     cr4: 0x20,
///     efer: 0x500,
///     cpl: 3,
///     rflags: 0x2,
/// };
/// let translation = user_in_64_bit_mode.translate(ram, 0x7fff_0000, Access::Write)?;
/// println!("at {:#x}", translation.physical());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageWalk {
    /// Control register 0.
    pub cr0: u64,
    /// Control register 3.
    pub cr3: u64,
    /// Control register 4.
    pub cr4: u64,
    /// The extended feature enable register.
    pub efer: u64,
    /// The current privilege level, 0 to 3.
    pub cpl: u8,
    /// The flags: EFLAGS.AC matters to SMAP.
    pub rflags: u64,
}

/// What is going to be done at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Access {
    /// Execution.
    Fetch,
    /// Reading and writing.
    Write,
}

/// Where a linear address lies in physical memory, and by which entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    physical: u64,
    page_bytes: u64,
    entries: [Entry; MAX_LEVELS],
    levels: usize,
    for_user: bool,
}

/// An entry as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Entry {
    address: u64,
    bytes: u64,
    value: u64,
    has_accessed_bit: bool,
}

/// Words of page tables, and what they were.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Words {
    words: [(u64, u64); MAX_LEVELS],
    count: usize,
}

impl Words {
    pub(super) fn as_slice(&self) -> &[(u64, u64)] {
        &self.words[..self.count]
    }
}

/// What all entries on the way allow.
#[derive(Debug, Clone, Copy)]
struct Rights {
    writable: bool,
    user: bool,
    executable: bool,
}

impl PageWalk {
    /// Translates an address as the CPU would for this access, and changes nothing.
    ///
    /// # Errors
    /// Why the CPU would fault, or why that cannot be said. The address in it is the one given.
    pub fn translate(
        &self,
        ram: &impl Ram,
        address: u64,
        access: Access,
    ) -> Result<Translation, AccessError> {
        let Some(format) = self.format() else {
            return Ok(Translation::untranslated(address));
        };
        if !self.is_translated(&format, address) {
            return Err(AccessError::NotMapped { address });
        }
        let mut rights = Rights::ALL;
        let mut translation = Translation::untranslated(address);
        let mut table = self.cr3 & format.root;
        for level in format.levels {
            let place = table + level.index(address) * format.entry_bytes;
            let entry = translation
                .read_entry(ram, place, &format, level)
                .ok_or(AccessError::NotRam { address })?;
            if entry & PRESENT == 0 {
                return Err(AccessError::NotMapped { address });
            }
            let is_page = format.is_page(level, entry);
            if entry & self.reserved(&format, level, is_page) != 0 {
                let on = "bits of a page-table entry that are reserved";
                return Err(AccessError::Undecided { address, on });
            }
            if level.has_rights {
                rights.restrict(entry);
            }
            if is_page {
                self.check(rights, entry, address, access)?;
                let offset = address & (level.page_bytes() - 1);
                translation.physical = format.page(level, entry) + offset;
                translation.page_bytes = level.page_bytes();
                translation.for_user = rights.user;
                return Ok(translation);
            }
            table = format.table(entry);
        }
        unreachable!("the last level of every format holds pages")
    }

    /// None if there is no paging.
    fn format(&self) -> Option<Format> {
        if self.cr0 & CR0_PAGING == 0 {
            return None;
        }
        let cr4 = |bit| self.cr4 & bit != 0;
        Some(if self.efer & EFER_LONG_MODE_ACTIVE != 0 {
            if cr4(CR4_FIVE_LEVELS) {
                LONG_MODE_57
            } else {
                LONG_MODE_48
            }
        } else if cr4(CR4_PAE) {
            PAE
        } else {
            let mut format = TWO_LEVELS;
            format.large_pages = cr4(CR4_LARGE_PAGES);
            format
        })
    }

    /// Whether the CPU looks at all bits of the address.
    fn is_translated(&self, format: &Format, address: u64) -> bool {
        let unused = 64 - format.linear_bits;
        if self.efer & EFER_LONG_MODE_ACTIVE != 0 {
            let address = address.cast_signed();
            address << unused >> unused == address
        } else {
            address >> format.linear_bits == 0
        }
    }

    fn reserved(&self, format: &Format, level: &Level, is_page: bool) -> u64 {
        let no_execute = self.efer & EFER_NO_EXECUTE == 0;
        format.reserved(level, is_page) | if no_execute { NO_EXECUTE } else { 0 }
    }

    fn check(
        &self,
        rights: Rights,
        page: u64,
        address: u64,
        access: Access,
    ) -> Result<(), AccessError> {
        let user_mode = self.cpl == 3;
        let cr4 = |bit| self.cr4 & bit != 0;
        let allowed = match access {
            Access::Fetch => {
                let at_this_level = if user_mode {
                    rights.user
                } else {
                    !(rights.user && cr4(CR4_SMEP))
                };
                at_this_level && rights.executable
            }
            Access::Write if user_mode => rights.user && rights.writable,
            Access::Write => {
                let smap = cr4(CR4_SMAP) && self.rflags & rflags::ALIGNMENT_CHECK == 0;
                let write_protect = self.cr0 & CR0_WRITE_PROTECT != 0;
                !(rights.user && smap) && (rights.writable || !write_protect)
            }
        };
        if !allowed {
            return Err(match access {
                Access::Fetch => AccessError::NotMapped { address },
                Access::Write => AccessError::NotWritable { address },
            });
        }
        let keys = if rights.user {
            CR4_USER_KEYS
        } else {
            CR4_SUPERVISOR_KEYS
        };
        let long_mode = self.efer & EFER_LONG_MODE_ACTIVE != 0;
        if access == Access::Write && long_mode && cr4(keys) && page & PROTECTION_KEY != 0 {
            let on = "its protection key";
            return Err(AccessError::Undecided { address, on });
        }
        Ok(())
    }
}

impl Translation {
    fn untranslated(address: u64) -> Self {
        Self {
            physical: address,
            page_bytes: 4096,
            entries: [Entry::default(); MAX_LEVELS],
            levels: 0,
            for_user: false,
        }
    }

    fn read_entry(
        &mut self,
        ram: &impl Ram,
        address: u64,
        format: &Format,
        level: &Level,
    ) -> Option<u64> {
        let mut entry = Entry {
            address,
            bytes: format.entry_bytes,
            value: 0,
            has_accessed_bit: level.has_rights,
        };
        entry.value = entry.in_word(ram.load(address & !7)?);
        self.entries[self.levels] = entry;
        self.levels += 1;
        Some(entry.value)
    }

    /// The physical address.
    #[must_use]
    pub fn physical(&self) -> u64 {
        self.physical
    }

    /// The size of the page that the address is in, in bytes. Without paging, 4096.
    #[must_use]
    pub fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    /// The tables alone decide. They do not where the CPU has pages of 1 GiB, which not every CPU has,
    /// or keeps a copy of the first four entries, as with PAE.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let without_rights = |entry: &Entry| !entry.has_accessed_bit;
        self.page_bytes < HUGE_PAGE_BYTES && !self.entries().iter().any(without_rights)
    }

    fn entries(&self) -> &[Entry] {
        &self.entries[..self.levels]
    }

    /// Sets the accessed bits, and the dirty bit of the page, as a CPU does that writes there.
    /// Returns whether that was possible: not if an entry has changed since it was read.
    ///
    /// Entries above the one that has changed may count as accessed then; CPUs set that bit also for
    /// what they only might need.
    #[must_use]
    pub fn mark_written(&self, ram: &impl Ram) -> bool {
        self.written_marks()
            .all(|(entry, marks)| entry.value & marks == marks || entry.mark(ram, marks))
    }

    /// Nothing is left to be marked.
    pub(super) fn is_marked_written(&self) -> bool {
        self.written_marks()
            .all(|(entry, marks)| entry.value & marks == marks)
    }

    /// What a CPU sets in each entry when it writes there.
    fn written_marks(&self) -> impl Iterator<Item = (&Entry, u64)> {
        let entries = self.entries();
        entries.iter().enumerate().map(|(n, entry)| {
            let is_page = n + 1 == entries.len();
            let marks = match (is_page, entry.has_accessed_bit) {
                (true, _) => ACCESSED | DIRTY,
                (false, true) => ACCESSED,
                (false, false) => 0,
            };
            (entry, marks)
        })
    }

    /// The words of the tables in which the entries are by which it was found, and what they were. As long as they are
    /// that, another walk on the same way comes to the same. `None` if an entry has only a part of its word.
    pub(super) fn words(&self) -> Option<Words> {
        let mut words = Words::default();
        for (word, entry) in words.words.iter_mut().zip(self.entries()) {
            if entry.bytes != 8 {
                return None;
            }
            *word = (entry.address, entry.value);
        }
        words.count = self.levels;
        Some(words)
    }

    /// All entries give it to the guest's programs, too.
    #[must_use]
    pub fn is_for_user(&self) -> bool {
        self.for_user
    }
}

impl Entry {
    /// An entry of four bytes is replaced together with its neighbour.
    fn mark(&self, ram: &impl Ram, marks: u64) -> bool {
        let word_address = self.address & !7;
        let Some(word) = ram.load(word_address) else {
            return false;
        };
        // Another translation may have marked it as well.
        let changed = (self.in_word(word) ^ self.value) & !(ACCESSED | DIRTY);
        let marked = word | marks << self.shift();
        changed == 0 && ram.compare_exchange(word_address, word, marked)
    }

    fn in_word(&self, word: u64) -> u64 {
        let used = u64::MAX >> (64 - 8 * self.bytes);
        word >> self.shift() & used
    }

    fn shift(&self) -> u64 {
        8 * (self.address & 7)
    }
}

impl Rights {
    const ALL: Self = Self {
        writable: true,
        user: true,
        executable: true,
    };

    fn restrict(&mut self, entry: u64) {
        self.writable &= entry & WRITABLE != 0;
        self.user &= entry & USER != 0;
        // Where this bit has another meaning it has been refused as reserved, or the entry has 32 bits.
        self.executable &= entry & NO_EXECUTE == 0;
    }
}
