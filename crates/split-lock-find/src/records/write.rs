//! The plugin's side. Any number of threads and processes write at once, and each may be killed at any moment.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::{
    CLAIMED, EMPTY, FileWords, MAGIC, MOST_CALLERS, MOST_SITES, MOST_SPACES, MOST_THREADS,
    MOST_UNWATCHED, Place, READY, SITE_WORDS, SITES, STRING_WORDS, STRINGS, Target, UNWATCHED,
    UNWATCHED_WORDS, caller, header, site, space, unwatched,
};

/// How often a site that another thread is writing is looked at again. That one may have been killed.
const MOST_LOOKS: u32 = 10_000;

/// An instruction that locks: where it is, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// Its address.
    pub pc: u64,
    /// Its bytes, as two words.
    pub bytes: [u64; 2],
    /// Its length, and the modes in which its bytes make such an instruction.
    pub shape: u64,
    /// Of a guest, the page that it is in, wherever the emulator has that: the same address may be another program's.
    pub page: u64,
}

impl Code {
    /// An instruction of at most 15 bytes, in the only mode that it is read in.
    #[must_use]
    pub fn new(pc: u64, bytes: &[u8], bits: Option<u32>) -> Self {
        Self::in_modes(pc, bytes, bits.as_slice())
    }

    /// An instruction of at most 15 bytes, and the modes (16, 32, 64 bits) that it can be of.
    #[must_use]
    pub fn in_modes(pc: u64, bytes: &[u8], modes: &[u32]) -> Self {
        let mut all = [0; 16];
        let length = bytes.len().min(all.len());
        all[..length].copy_from_slice(&bytes[..length]);
        let (low, high) = all.split_at(8);
        let word = |part: &[u8]| {
            part.iter()
                .rev()
                .fold(0, |all, &it| all << 8 | u64::from(it))
        };
        let modes = modes.iter().fold(0, |all, bits| all | u64::from(bits / 16));
        Self {
            pc,
            bytes: [word(low), word(high)],
            shape: length as u64 | modes << 8,
            page: 0,
        }
    }

    /// The same in that page of a guest.
    #[must_use]
    pub fn in_page(self, page: u64) -> Self {
        Self { page, ..self }
    }

    fn hash(&self) -> usize {
        let [low, high] = self.bytes;
        let all = [self.pc, low, high, self.page];
        let mixed = all.iter().fold(0u64, |hash, &word| {
            (hash ^ word)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29)
        });
        (mixed >> 16) as usize
    }
}

/// A file of records, by its words.
#[derive(Debug, Clone, Copy)]
pub struct Recorder<'a> {
    words: &'a [AtomicU64],
}

impl<'a> Recorder<'a> {
    /// Begins a file, all of whose words are zero. `None` if it does not have [`FileWords::COUNT`] of them.
    #[must_use]
    pub fn create(
        words: &'a [AtomicU64],
        pid: u32,
        target: Target,
        program: &[u8],
    ) -> Option<Self> {
        let words = words.get(..FileWords::COUNT)?;
        let recorder = Self { words };
        recorder.set(header::PID, pid.into());
        recorder.set(header::TARGET, target.number());
        let program = recorder.string(program);
        recorder.set(header::PROGRAM, program);
        words[header::MAGIC].store(MAGIC, Release);
        Some(recorder)
    }

    /// The version of the plugin interface that the emulator has.
    pub fn set_api_version(&self, version: u32) {
        self.set(header::API_VERSION, version.into());
    }

    /// The emulator tells in which address space of a guest code is executed.
    pub fn set_tells_spaces(&self) {
        self.set(header::TELLS_SPACES, 1);
    }

    /// A locked instruction was translated.
    pub fn count_translated(&self) {
        self.words[header::TRANSLATED].fetch_add(1, Relaxed);
    }

    /// A locked instruction was translated that is not watched.
    pub fn count_left_out(&self) {
        self.words[header::LEFT_OUT].fetch_add(1, Relaxed);
    }

    /// A split lock at a site that there is no room for.
    pub fn count_without_site(&self) {
        self.words[header::WITHOUT_SITE].fetch_add(1, Relaxed);
    }

    /// The emulator is about to be executed for another program, or could not be.
    pub fn count_executed(&self, is_about_to: bool) {
        let executed = &self.words[header::EXECUTED];
        if is_about_to {
            executed.fetch_add(1, Relaxed);
        } else {
            executed.fetch_sub(1, Relaxed);
        }
    }

    /// A number for a thread that has none yet.
    #[must_use]
    pub fn next_thread(&self) -> u64 {
        self.words[header::NEXT_THREAD].fetch_add(1, Relaxed)
    }

    /// The record of an instruction, and whether it was made now; `None` if there is no room.
    #[must_use]
    pub fn site(&self, code: &Code) -> Option<(SiteRecord<'a>, bool)> {
        let start = code.hash();
        for n in 0..MOST_SITES {
            let number = start.wrapping_add(n) % MOST_SITES;
            let record = self.numbered_site(number)?;
            match record.claim_or_compare(code) {
                Claim::Made => return Some((record, true)),
                Claim::Same => return Some((record, false)),
                Claim::Other => {}
            }
        }
        None
    }

    /// The record of that number.
    #[must_use]
    pub fn numbered_site(&self, number: usize) -> Option<SiteRecord<'a>> {
        let start = SITES + number * SITE_WORDS;
        (number < MOST_SITES).then(|| SiteRecord {
            number,
            words: &self.words[start..start + SITE_WORDS],
            file: *self,
        })
    }

    /// A program is about to run outside of the emulator, unless [`UnwatchedRecord::withdraw`] is called.
    #[must_use]
    pub fn unwatched(&self, path: &[u8], reason: &str) -> Option<UnwatchedRecord<'a>> {
        let records = self.words[UNWATCHED..STRINGS].chunks_exact(UNWATCHED_WORDS);
        for words in records.take(MOST_UNWATCHED) {
            let state = &words[unwatched::STATE];
            if state
                .compare_exchange(EMPTY, CLAIMED, AcqRel, Relaxed)
                .is_ok()
            {
                words[unwatched::PATH].store(self.string(path), Relaxed);
                words[unwatched::REASON].store(self.string(reason.as_bytes()), Relaxed);
                state.store(READY, Release);
                return Some(UnwatchedRecord { state });
            }
        }
        self.words[header::UNWATCHED_WITHOUT_ROOM].fetch_add(1, Relaxed);
        None
    }

    /// Puts a text down, and returns what stands for it: 0 if there is no room.
    fn string(&self, text: &[u8]) -> u64 {
        let count = text.len().div_ceil(8) as u64;
        if count == 0 || text.len() > usize::from(u16::MAX) {
            return 0;
        }
        let next = &self.words[header::NEXT_STRING];
        let room = STRING_WORDS as u64;
        let place = next.fetch_update(Relaxed, Relaxed, |at| {
            (at + count <= room).then_some(at + count)
        });
        let Ok(place) = place else { return 0 };
        let start = STRINGS + place as usize;
        for (word, part) in self.words[start..].iter().zip(text.chunks(8)) {
            let value = part
                .iter()
                .rev()
                .fold(0, |all, &it| all << 8 | u64::from(it));
            word.store(value, Relaxed);
        }
        place << 16 | text.len() as u64
    }

    fn set(&self, word: usize, value: u64) {
        self.words[word].store(value, Relaxed);
    }
}

enum Claim {
    Made,
    Same,
    Other,
}

/// The record of one instruction that splits locks.
#[derive(Debug, Clone, Copy)]
pub struct SiteRecord<'a> {
    number: usize,
    words: &'a [AtomicU64],
    file: Recorder<'a>,
}

impl SiteRecord<'_> {
    /// Its number, for [`Recorder::numbered_site`].
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// A split lock: the operand's address and size, and the thread's serial number.
    pub fn add(&self, operand: u64, bytes: u64, thread: u64) {
        const PAGE: u64 = 4096;
        if self.words[site::COUNT].fetch_add(1, Relaxed) == 0 {
            self.set(site::FIRST, operand);
            self.set(site::SIZE, bytes);
        }
        self.set(site::LAST, operand);
        if operand % PAGE + bytes > PAGE {
            self.words[site::PAGES].fetch_add(1, Relaxed);
        }
        if thread < MOST_THREADS {
            let word = &self.words[site::THREADS + thread as usize / 64];
            let bit = 1 << (thread % 64);
            if word.load(Relaxed) & bit == 0 {
                word.fetch_or(bit, Relaxed);
            }
        } else {
            self.set(site::MORE_THREADS, 1);
        }
    }

    /// Which file its code is from, and where that file's first page is.
    pub fn set_module(&self, path: &[u8], start: u64) {
        self.set(site::MODULE_START, start);
        self.set(site::MODULE, self.file.string(path));
    }

    /// The calls that led to it, by where they return to, the innermost first; the others are 0.
    pub fn set_callers<'m>(
        &self,
        return_addresses: &[u64; MOST_CALLERS],
        module: impl Fn(u64) -> Option<(&'m [u8], u64)>,
    ) {
        let mut before: (&[u8], u64) = (&[], 0);
        for (n, &address) in return_addresses.iter().enumerate().rev() {
            let start = site::CALLERS + n * caller::WORDS;
            if let Some((path, module_start)) = module(address).filter(|_| address != 0) {
                if path != before.0 {
                    before = (path, self.file.string(path));
                }
                self.set(start + caller::MODULE, before.1);
                self.set(start + caller::MODULE_START, module_start);
            }
            // The innermost comes last, and says that all are there.
            self.words[start + caller::ADDRESS].store(address, Release);
        }
    }

    /// Notes whether these calls are others.
    pub fn compare_callers(&self, return_addresses: &[u64; MOST_CALLERS]) {
        let known = |n: usize| &self.words[site::CALLERS + n * caller::WORDS + caller::ADDRESS];
        let is_set = known(0).load(Acquire) != 0;
        let mut all = return_addresses.iter().enumerate();
        if is_set && all.any(|(n, &address)| known(n).load(Relaxed) != address) {
            self.set(site::MORE, 1);
        }
    }

    /// A split lock in an address space of a guest, by where its page tables are, which is not 0. The program is asked for
    /// the first time.
    pub fn add_in_space(&self, page_table: u64, program: impl FnOnce() -> Vec<u8>) {
        for n in 0..MOST_SPACES {
            let words = &self.words[site::SPACES + n * space::WORDS..][..space::WORDS];
            let known = &words[space::PAGE_TABLE];
            let before = match known.load(Relaxed) {
                0 => known.compare_exchange(0, page_table, Relaxed, Relaxed),
                other => Err(other),
            };
            match before {
                Ok(_) => {
                    let program = self.file.string(&program());
                    words[space::PROGRAM].store(program, Relaxed);
                }
                Err(other) if other == page_table => {}
                Err(_) => continue,
            }
            words[space::COUNT].fetch_add(1, Relaxed);
            return;
        }
        self.set(site::MORE, 1);
    }

    /// What its first operand is part of.
    pub fn set_place(&self, place: &Place) {
        let (kind, name, start) = match place {
            Place::Unknown => (Place::UNKNOWN, 0, 0),
            Place::File { path, start } => (Place::FILE, self.file.string(path), *start),
            Place::Heap { start } => (Place::HEAP, 0, *start),
            Place::Stack => (Place::STACK, 0, 0),
            Place::ThreadStack => (Place::THREAD_STACK, 0, 0),
            Place::Anonymous { start } => (Place::ANONYMOUS, 0, *start),
        };
        self.set(site::PLACE_NAME, name);
        self.set(site::PLACE_START, start);
        self.set(site::PLACE, kind);
    }

    /// The thread that was the first here; of its name 16 bytes count.
    pub fn set_thread(&self, id: u32, name: &[u8]) {
        let named = Code::new(0, name, None);
        self.set(site::THREAD, id.into());
        self.set(site::THREAD_NAME, named.bytes[0]);
        self.set(site::THREAD_NAME + 1, named.bytes[1]);
    }

    fn claim_or_compare(&self, code: &Code) -> Claim {
        let state = &self.words[site::STATE];
        if state.load(Acquire) == EMPTY
            && state
                .compare_exchange(EMPTY, CLAIMED, AcqRel, Acquire)
                .is_ok()
        {
            self.set(site::PC, code.pc);
            self.set(site::BYTES, code.bytes[0]);
            self.set(site::BYTES + 1, code.bytes[1]);
            self.set(site::SHAPE, code.shape);
            self.set(site::CODE_PAGE, code.page);
            state.store(READY, Release);
            return Claim::Made;
        }
        let mut looks = 0;
        while state.load(Acquire) == CLAIMED && looks < MOST_LOOKS {
            looks += 1;
            std::hint::spin_loop();
        }
        let get = |word: usize| self.words[word].load(Relaxed);
        let is_same = state.load(Acquire) == READY
            && get(site::PC) == code.pc
            && get(site::CODE_PAGE) == code.page
            && [get(site::BYTES), get(site::BYTES + 1)] == code.bytes;
        if is_same { Claim::Same } else { Claim::Other }
    }

    fn set(&self, word: usize, value: u64) {
        self.words[word].store(value, Relaxed);
    }
}

/// The record of a program that is about to run outside of the emulator.
#[derive(Debug)]
pub struct UnwatchedRecord<'a> {
    state: &'a AtomicU64,
}

impl UnwatchedRecord<'_> {
    /// It could not be executed at all.
    pub fn withdraw(self) {
        self.state.store(EMPTY, Release);
    }
}
