//! Instructions that split locks, in all processes together.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use split_lock_find::records::{AddressSpace, Recording, Site as Record};
use split_lock_symbols::{FunctionName, SourceLine};

use super::place::{self, Operand};
use super::records::Recordings;
use super::suppression::Suppressions;
use super::symbols::{Code, GuestSymbols, is_own};

/// An instruction.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) code: Code,
    pub(super) count: u64,
    /// Of them, how often across two pages.
    pub(super) pages: u64,
    pub(super) operand: Operand,
    /// The first thread that was here; nothing in a guest.
    pub(super) thread: String,
    pub(super) threads: u64,
    pub(super) has_more_threads: bool,
    /// Other calls led to it than those of its code.
    pub(super) has_more_callers: bool,
    /// Programs that it was executed in; of a guest those of which it is known.
    pub(super) programs: Vec<String>,
    /// Of a guest: address spaces that it was executed in, the most frequent first.
    pub(super) spaces: Vec<AddressSpace>,
    pub(super) has_more_spaces: bool,
    /// Processes, forks not counted.
    pub(super) processes: u64,
    pub(super) suppressed_by: Option<String>,
}

/// All of them: the most frequent first, and the same order for the same counts.
#[derive(Debug)]
pub(super) struct Sites(Vec<Site>);

impl Sites {
    /// The sites, and suppressions that matched none.
    pub(super) fn new(
        recordings: &Recordings,
        symbols: &GuestSymbols,
        suppressions: &Suppressions,
    ) -> (Self, Vec<String>) {
        let mut all: Vec<Site> = vec![];
        let mut known = HashMap::new();
        for recording in &recordings.of_splitters {
            for record in &recording.sites {
                let site = Site::new(recording, record, symbols);
                // A guest's programs have the same addresses.
                let key = (site.key(), record.code_page);
                match known.get(&key) {
                    Some(&n) => {
                        let there: &mut Site = &mut all[n];
                        there.add(site);
                    }
                    None => {
                        known.insert(key, all.len());
                        all.push(site);
                    }
                }
            }
        }
        let mut used = vec![false; suppressions.len()];
        for site in &mut all {
            if let Some((n, name)) = suppressions.matching(&site.code) {
                used[n] = true;
                site.suppressed_by = Some(name.to_owned());
            }
        }
        all.sort_by_key(|site| (Reverse(site.count), site.key(), site.operand.first));
        (Self(all), suppressions.names_of_unused(&used))
    }

    pub(super) fn all(&self) -> &[Site] {
        &self.0
    }

    /// Those that are not suppressed.
    pub(super) fn counted(&self) -> impl Iterator<Item = &Site> {
        self.0.iter().filter(|site| site.suppressed_by.is_none())
    }
}

impl Site {
    fn new(recording: &Recording, record: &Record, symbols: &GuestSymbols) -> Self {
        let program = String::from_utf8_lossy(&recording.program).into_owned();
        let mut spaces = record.spaces.clone();
        spaces.sort_by_key(|it| (Reverse(it.count), it.program.clone(), it.page_table));
        let of_guest = spaces.iter();
        let of_guest = of_guest.map(|it| String::from_utf8_lossy(&it.program).into_owned());
        let programs: BTreeSet<_> = of_guest.chain([program]).collect();
        Self {
            code: Code::locate(record, recording.target, symbols),
            count: record.count,
            pages: record.pages,
            operand: place::operand(record),
            thread: String::from_utf8_lossy(&record.thread.1).into_owned(),
            threads: record.threads,
            has_more_threads: record.has_more_threads,
            has_more_callers: record.has_more_callers,
            programs: programs.into_iter().filter(|it| !it.is_empty()).collect(),
            spaces,
            has_more_spaces: record.has_more_spaces,
            processes: 1,
            suppressed_by: None,
        }
    }

    /// The same in another process.
    fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.pages = self.pages.saturating_add(other.pages);
        self.threads = self.threads.saturating_add(other.threads);
        self.has_more_threads |= other.has_more_threads;
        self.has_more_callers |= other.has_more_callers || other.code.callers != self.code.callers;
        self.processes += 1;
        self.spaces.extend(other.spaces);
        self.has_more_spaces |= other.has_more_spaces;
        for program in other.programs {
            if !self.programs.contains(&program) {
                self.programs.push(program);
            }
        }
        self.programs.sort();
    }

    /// What does not change from run to run.
    fn key(&self) -> (String, u64, Vec<u8>) {
        let code = &self.code;
        let address = code.offset.unwrap_or(code.pc);
        let owner = code.module.clone();
        let owner = owner.or_else(|| self.programs.first().cloned());
        (owner.unwrap_or_default(), address, code.bytes.clone())
    }

    /// `name+0x12`
    pub(super) fn function(&self) -> Option<String> {
        let (name, offset) = self.code.function.as_ref()?;
        Some(in_words(name, *offset))
    }

    /// The line that its author can do something about: the innermost below this folder, or else of the program's own
    /// files, or else the innermost.
    pub(super) fn line(&self, folder: &Path) -> Option<&SourceLine> {
        let lines = || self.code.lines();
        let is_inside = |line: &&SourceLine| Path::new(&line.file).starts_with(folder);
        let found = lines().find(is_inside);
        found
            .or_else(|| lines().find(|it| is_own(it)))
            .or_else(|| lines().next())
    }
}

/// `name+0x12`, or the name alone at its beginning.
pub(super) fn in_words(name: &FunctionName, offset: u64) -> String {
    match offset {
        0 => name.demangled.clone(),
        _ => format!("{}+{offset:#x}", name.demangled),
    }
}
