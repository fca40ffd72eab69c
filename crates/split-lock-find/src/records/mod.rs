//! The file that the plugin writes and the command reads: fixed tables of 64-bit words.
//!
//! The plugin maps the file shared and changes it by atomic stores and additions alone. So it is complete at every
//! moment, whatever ends the process, and processes that were forked from one another count in the same file. Its
//! size is fixed: what finds no room is counted and told.
//!
//! | words | what |
//! |---|---|
//! | [`HEADER`] | of the process |
//! | [`SITE_WORDS`] × [`MOST_SITES`] | sites, found by hashing |
//! | [`UNWATCHED_WORDS`] × [`MOST_UNWATCHED`] | programs that run outside of the emulator |
//! | [`STRING_WORDS`] | texts, each from a word on |
//!
//! ```
//! use std::sync::atomic::AtomicU64;
//! use split_lock_find::records::{Code, FileWords, Recorder, Recording, Target};
//!
//! let words: Vec<AtomicU64> = (0..FileWords::COUNT).map(|_| AtomicU64::new(0)).collect();
//! let recorder = Recorder::create(&words, 42, Target::X86_64, b"/bin/true").unwrap();
//! // lock inc dword ptr [rdi]
//! let code = Code::new(0x401136, &[0xf0, 0xff, 0x07], Some(64));
//! let (site, _is_new) = recorder.site(&code).unwrap();
//! site.add(0x7f003e, 4, 0);
//!
//! let bytes: Vec<u8> = words.iter().flat_map(|word| word.load(std::sync::atomic::Ordering::Relaxed).to_le_bytes()).collect();
//! let recording = Recording::read(&bytes).unwrap();
//! assert_eq!((recording.pid, recording.sites[0].count), (42, 1));
//! ```

mod read;
mod write;

pub use read::{AddressSpace, Caller, Damaged, Recording, Site, Unwatched};
pub use write::{Code, Recorder, SiteRecord, UnwatchedRecord};

/// `SPLFIND` and the format's version.
const MAGIC: u64 = u64::from_le_bytes(*b"SPLFIND\x03");

/// Words of the header.
pub const HEADER: usize = 64;
/// Sites that split locks, in one process and its forks. A power of two.
pub const MOST_SITES: usize = 512;
/// Words of a site.
pub const SITE_WORDS: usize = 64;
/// Programs that were not followed, in one process and its forks.
pub const MOST_UNWATCHED: usize = 64;
/// Words of such a program.
pub const UNWATCHED_WORDS: usize = 4;
/// Words for texts.
pub const STRING_WORDS: usize = 16 * 1024;
/// More threads than that are not told apart.
pub const MOST_THREADS: u64 = 1024;
/// Calls that led to an instruction are remembered up to so many.
pub const MOST_CALLERS: usize = 9;
/// Address spaces of a guest that an instruction was executed in are told apart up to so many.
pub const MOST_SPACES: usize = 9;

const SITES: usize = HEADER;
const UNWATCHED: usize = SITES + SITE_WORDS * MOST_SITES;
const STRINGS: usize = UNWATCHED + UNWATCHED_WORDS * MOST_UNWATCHED;

/// The file as a whole.
#[derive(Debug)]
pub struct FileWords;

impl FileWords {
    /// How many words it has.
    pub const COUNT: usize = STRINGS + STRING_WORDS;
    /// How many bytes it has.
    pub const BYTES: usize = Self::COUNT * 8;
}

/// Words of the header.
mod header {
    pub(super) const MAGIC: usize = 0;
    pub(super) const PID: usize = 1;
    pub(super) const TARGET: usize = 2;
    pub(super) const PROGRAM: usize = 3;
    pub(super) const API_VERSION: usize = 4;
    /// Locked instructions that were translated, those translated again included.
    pub(super) const TRANSLATED: usize = 5;
    /// Of them, those that there was no room for.
    pub(super) const LEFT_OUT: usize = 6;
    /// Split locks at sites that there was no room for.
    pub(super) const WITHOUT_SITE: usize = 7;
    pub(super) const UNWATCHED_WITHOUT_ROOM: usize = 8;
    pub(super) const NEXT_STRING: usize = 9;
    pub(super) const NEXT_THREAD: usize = 10;
    /// Programs that were executed in the emulator.
    pub(super) const EXECUTED: usize = 11;
    /// The emulator tells in which address space of a guest code is executed.
    pub(super) const TELLS_SPACES: usize = 12;
}

/// Words of a site.
mod site {
    pub(super) const STATE: usize = 0;
    pub(super) const PC: usize = 1;
    pub(super) const BYTES: usize = 2;
    /// The instruction's length, and the modes in which its bytes lock something of that length.
    pub(super) const SHAPE: usize = 4;
    pub(super) const COUNT: usize = 5;
    pub(super) const PAGES: usize = 6;
    pub(super) const FIRST: usize = 7;
    pub(super) const LAST: usize = 8;
    pub(super) const SIZE: usize = 9;
    pub(super) const MODULE: usize = 10;
    pub(super) const MODULE_START: usize = 11;
    pub(super) const PLACE: usize = 12;
    pub(super) const PLACE_NAME: usize = 13;
    pub(super) const PLACE_START: usize = 14;
    pub(super) const THREAD: usize = 15;
    pub(super) const THREAD_NAME: usize = 16;
    pub(super) const MORE_THREADS: usize = 18;
    /// Of a guest, the page that the code is in: wherever the emulator has it.
    pub(super) const CODE_PAGE: usize = 19;
    /// A bit for each thread, by its serial number.
    pub(super) const THREADS: usize = 20;
    pub(super) const THREAD_WORDS: usize = super::MOST_THREADS as usize / 64;
    /// It was called in another way than the first time; of a guest, in more address spaces than there was room for.
    pub(super) const MORE: usize = THREADS + THREAD_WORDS;
    /// The calls that led to it the first time, the innermost first: three words each.
    pub(super) const CALLERS: usize = MORE + 1;
    /// Of a guest, whose calls are not followed: address spaces, three words each.
    pub(super) const SPACES: usize = CALLERS;
}

/// Words of an address space.
mod space {
    /// Where its page tables are; 0 if there is none.
    pub(super) const PAGE_TABLE: usize = 0;
    pub(super) const PROGRAM: usize = 1;
    pub(super) const COUNT: usize = 2;
    pub(super) const WORDS: usize = 3;
}

/// Words of a call.
mod caller {
    /// Where it returns to; 0 if there is none.
    pub(super) const ADDRESS: usize = 0;
    pub(super) const MODULE: usize = 1;
    pub(super) const MODULE_START: usize = 2;
    pub(super) const WORDS: usize = 3;
}

/// Words of a program that was not followed.
mod unwatched {
    pub(super) const STATE: usize = 0;
    pub(super) const PATH: usize = 1;
    pub(super) const REASON: usize = 2;
}

/// Nothing is there.
const EMPTY: u64 = 0;
/// It is being written, or its writer was killed.
const CLAIMED: u64 = 1;
/// Its key is there; the rest comes at any time.
const READY: u64 = 2;

/// What is emulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A program of 64 bits.
    X86_64,
    /// A program of 32 bits.
    I386,
    /// A machine.
    System,
}

impl Target {
    const ALL: [Self; 3] = [Self::X86_64, Self::I386, Self::System];

    fn number(self) -> u64 {
        match self {
            Self::X86_64 => 1,
            Self::I386 => 2,
            Self::System => 3,
        }
    }
}

/// What an operand is part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// It could not be seen.
    Unknown,
    /// A file's data, with the address at which the file is loaded.
    File {
        /// Its path.
        path: Vec<u8>,
        /// Where the file's first page is.
        start: u64,
    },
    /// The program's heap, as brk(2) made it, from there on.
    Heap {
        /// Where it begins.
        start: u64,
    },
    /// The first thread's stack.
    Stack,
    /// The stack of another thread.
    ThreadStack,
    /// Memory without a file, from there on.
    Anonymous {
        /// Where it begins.
        start: u64,
    },
}

impl Place {
    const UNKNOWN: u64 = 0;
    const FILE: u64 = 1;
    const HEAP: u64 = 2;
    const STACK: u64 = 3;
    const THREAD_STACK: u64 = 4;
    const ANONYMOUS: u64 = 5;
}

#[cfg(test)]
mod tests;
