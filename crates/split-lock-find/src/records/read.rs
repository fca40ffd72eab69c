//! The command's side. A file may be anybody's: nothing in it is trusted.

use std::collections::HashMap;

use super::{
    CLAIMED, EMPTY, FileWords, HEADER, MAGIC, MOST_CALLERS, MOST_SITES, MOST_SPACES,
    MOST_UNWATCHED, Place, SITE_WORDS, SITES, STRING_WORDS, STRINGS, Target, UNWATCHED,
    UNWATCHED_WORDS, caller, header, site, space, unwatched,
};

/// A file is not one of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no whole file of records of this version")]
pub struct Damaged;

/// What a process and its forks have done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// The process that began.
    pub pid: u32,
    /// What was emulated.
    pub target: Target,
    /// The program's path; empty if there is none.
    pub program: Vec<u8>,
    /// The version of the plugin interface that the emulator has.
    pub api_version: u32,
    /// Locked instructions that were translated; those that were translated again count again.
    pub translated: u64,
    /// Of them, those that there was no room for and that were not watched.
    pub left_out: u64,
    /// Split locks at sites that there was no room for.
    pub without_site: u64,
    /// Programs that were executed in the emulator, each of which has a file of its own, if it could make one.
    pub executed: u64,
    /// The emulator tells in which address spaces of a guest its programs split locks.
    pub tells_spaces: bool,
    /// Sites, in no order.
    pub sites: Vec<Site>,
    /// Programs that run outside of the emulator.
    pub unwatched: Vec<Unwatched>,
    /// More of them than there was room for.
    pub unwatched_without_room: u64,
}

/// An instruction that splits locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its address while it ran.
    pub pc: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The modes that it can be of (16, 32, 64 bits), the fewest bits first.
    pub modes: Vec<u32>,
    /// How often it has split a lock.
    pub count: u64,
    /// Of them, how often across two pages.
    pub pages: u64,
    /// The address of the first operand that was split.
    pub first_operand: u64,
    /// That of the last.
    pub last_operand: u64,
    /// The operand's size.
    pub operand_bytes: u64,
    /// The file that the code is from, and where its first page was.
    pub module: Option<(Vec<u8>, u64)>,
    /// What the first operand is part of.
    pub place: Place,
    /// The first thread that was here, and its name.
    pub thread: (u32, Vec<u8>),
    /// How many threads were here.
    pub threads: u64,
    /// There were more threads than can be told apart.
    pub has_more_threads: bool,
    /// The calls that led to it the first time, the innermost first.
    pub callers: Vec<Caller>,
    /// Others led to it as well.
    pub has_more_callers: bool,
    /// Of a guest, what is told apart by it: the same address may be another program's. It means nothing else.
    pub code_page: u64,
    /// Address spaces of a guest in which user code was here, in no order; none in its kernel and firmware, nor where the
    /// emulator does not tell.
    pub spaces: Vec<AddressSpace>,
    /// There were more of them.
    pub has_more_spaces: bool,
}

/// An address space of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressSpace {
    /// The physical address of its page tables, from CR3. Another process may have it later.
    pub page_table: u64,
    /// The path by which the program was executed, where the emulator and the guest tell; otherwise empty.
    pub program: Vec<u8>,
    /// How often the instruction has split a lock there.
    pub count: u64,
}

/// A call that has not returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Where it returns to, behind the call.
    pub return_address: u64,
    /// The file that the code is from, and where its first page was.
    pub module: Option<(Vec<u8>, u64)>,
}

/// A program that ran outside of the emulator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwatched {
    /// Its path.
    pub path: Vec<u8>,
    /// Why.
    pub reason: String,
}

impl Recording {
    /// Reads a file. It may still be written to: what is read has been so at some moment.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(bytes: &[u8]) -> Result<Self, Damaged> {
        let file = Words(bytes);
        if bytes.len() < FileWords::BYTES || file.get(header::MAGIC) != MAGIC {
            return Err(Damaged);
        }
        let target = file.get(header::TARGET);
        let target = Target::ALL.into_iter().find(|it| it.number() == target);
        let target = target.ok_or(Damaged)?;
        let sites = (0..MOST_SITES).map(|n| file.part(SITES + n * SITE_WORDS, SITE_WORDS));
        let unwatched = (0..MOST_UNWATCHED)
            .map(|n| file.part(UNWATCHED + n * UNWATCHED_WORDS, UNWATCHED_WORDS));
        Ok(Self {
            pid: file.get(header::PID) as u32,
            target,
            program: file.string(file.get(header::PROGRAM)),
            api_version: file.get(header::API_VERSION) as u32,
            translated: file.get(header::TRANSLATED),
            left_out: file.get(header::LEFT_OUT),
            without_site: file.get(header::WITHOUT_SITE),
            executed: file.get(header::EXECUTED),
            tells_spaces: file.get(header::TELLS_SPACES) != 0,
            sites: merged(sites.filter_map(|words| file.site(words, target))),
            unwatched: unwatched
                .filter(|words| words.get(unwatched::STATE) != EMPTY)
                .map(|words| Unwatched {
                    path: file.string(words.get(unwatched::PATH)),
                    reason: String::from_utf8_lossy(&file.string(words.get(unwatched::REASON)))
                        .into_owned(),
                })
                .collect(),
            unwatched_without_room: file.get(header::UNWATCHED_WITHOUT_ROOM),
        })
    }
}

/// Words of a file, the lowest byte first. Behind its end they are zero.
#[derive(Clone, Copy)]
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    fn get(self, word: usize) -> u64 {
        let bytes = self.0.get(word * 8..word * 8 + 8);
        bytes.map_or(0, |bytes| {
            bytes
                .iter()
                .rev()
                .fold(0, |all, &it| all << 8 | u64::from(it))
        })
    }

    fn part(self, start: usize, count: usize) -> Self {
        Self(
            self.0
                .get(start * 8..(start + count) * 8)
                .unwrap_or_default(),
        )
    }

    fn string(self, reference: u64) -> Vec<u8> {
        let (word, length) = (reference >> 16, reference as usize & 0xffff);
        if word >= STRING_WORDS as u64 {
            return vec![];
        }
        let start = (STRINGS + word as usize) * 8;
        let bytes = self.0.get(start..start + length);
        bytes.unwrap_or_default().to_vec()
    }

    fn site(self, words: Words<'a>, target: Target) -> Option<Site> {
        let state = words.get(site::STATE);
        let count = words.get(site::COUNT);
        if state == EMPTY || state == CLAIMED || count == 0 {
            return None;
        }
        let bytes = |from: usize| {
            let both = [words.get(from), words.get(from + 1)];
            both.map(u64::to_le_bytes).concat()
        };
        let shape = words.get(site::SHAPE);
        let mut code = bytes(site::BYTES);
        code.truncate(shape as usize & 0xf);
        let mut name = bytes(site::THREAD_NAME);
        name.truncate(name.iter().position(|&it| it == 0).unwrap_or(name.len()));
        let module = |from: usize| {
            let path = self.string(words.get(from));
            (!path.is_empty()).then(|| (path, words.get(from + 1)))
        };
        let callers = (0..MOST_CALLERS).map(|n| site::CALLERS + n * caller::WORDS);
        let callers = callers.map(|from| Caller {
            return_address: words.get(from + caller::ADDRESS),
            module: module(from + caller::MODULE),
        });
        let callers = callers.take_while(|it| it.return_address != 0);
        let spaces = (0..MOST_SPACES).map(|n| site::SPACES + n * space::WORDS);
        let spaces = spaces.map(|from| AddressSpace {
            page_table: words.get(from + space::PAGE_TABLE),
            program: self.string(words.get(from + space::PROGRAM)),
            count: words.get(from + space::COUNT),
        });
        let spaces = spaces.take_while(|it| it.page_table != 0);
        // A writer may be between claiming it and counting, or have been killed there.
        let spaces = spaces.filter(|it| it.count != 0);
        let (callers, spaces) = match target {
            Target::System => (vec![], spaces.collect()),
            Target::X86_64 | Target::I386 => (callers.collect(), vec![]),
        };
        let has_more = words.get(site::MORE) != 0;
        let start = words.get(site::PLACE_START);
        let threads = (0..site::THREAD_WORDS)
            .map(|n| u64::from(words.get(site::THREADS + n).count_ones()))
            .sum();
        Some(Site {
            pc: words.get(site::PC),
            bytes: code,
            modes: [16, 32, 64]
                .into_iter()
                .filter(|bits| shape >> 8 & u64::from(bits / 16) != 0)
                .collect(),
            count,
            pages: words.get(site::PAGES),
            first_operand: words.get(site::FIRST),
            last_operand: words.get(site::LAST),
            operand_bytes: words.get(site::SIZE),
            module: module(site::MODULE),
            place: match words.get(site::PLACE) {
                Place::FILE => Place::File {
                    path: self.string(words.get(site::PLACE_NAME)),
                    start,
                },
                Place::HEAP => Place::Heap { start },
                Place::STACK => Place::Stack,
                Place::THREAD_STACK => Place::ThreadStack,
                Place::ANONYMOUS => Place::Anonymous { start },
                _ => Place::Unknown,
            },
            thread: (words.get(site::THREAD) as u32, name),
            threads,
            has_more_threads: words.get(site::MORE_THREADS) != 0,
            callers,
            has_more_callers: has_more && target != Target::System,
            code_page: words.get(site::CODE_PAGE),
            spaces,
            has_more_spaces: has_more && target == Target::System,
        })
    }
}

/// A writer that was killed may have left a place that others then went around: the same instruction is there twice.
fn merged(sites: impl Iterator<Item = Site>) -> Vec<Site> {
    let mut all: Vec<Site> = vec![];
    let mut known = HashMap::new();
    for site in sites {
        let key = (site.pc, site.bytes.clone(), site.code_page);
        match known.get(&key) {
            Some(&n) => {
                let before: &mut Site = &mut all[n];
                before.count = before.count.saturating_add(site.count);
                before.pages = before.pages.saturating_add(site.pages);
                before.threads = before.threads.max(site.threads);
                before.has_more_callers |= site.has_more_callers || site.callers != before.callers;
                before.has_more_spaces |= site.has_more_spaces;
                for space in site.spaces {
                    let mut known = before.spaces.iter_mut();
                    match known.find(|it| it.page_table == space.page_table) {
                        Some(it) => it.count = it.count.saturating_add(space.count),
                        None => before.spaces.push(space),
                    }
                }
            }
            None => {
                known.insert(key, all.len());
                all.push(site);
            }
        }
    }
    all
}

const _: () = assert!(HEADER > header::TELLS_SPACES);
const _: () = assert!(SITE_WORDS == site::CALLERS + MOST_CALLERS * caller::WORDS);
const _: () = assert!(SITE_WORDS == site::SPACES + MOST_SPACES * space::WORDS);
const _: () = assert!(site::MODULE_START == site::MODULE + 1);
const _: () = assert!(caller::MODULE_START == caller::MODULE + 1);
