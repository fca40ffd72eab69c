//! Code that is known to split locks, with where that is from.
//!
//! What is publicly reported is mostly a thread's name and an address. So an entry never says more than that
//! a name, or an instruction's place, or both have been seen before.

use std::ops::RangeInclusive;

use serde::Serialize;

use super::{Fingerprint, Group, ProgramKind};

mod kernel;
mod table;
#[cfg(test)]
mod tests;

pub use kernel::KnownKernelSplitter;
use table::KNOWN;

/// Code that somebody has met before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KnownSplitter {
    /// What it is called.
    pub name: &'static str,
    /// What is known of it, in a sentence.
    pub what: &'static str,
    /// What can be done about it, in a sentence, if anything.
    pub remedy: Option<&'static str>,
    /// Where that is from: addresses of pages, or a description.
    pub sources: &'static [&'static str],
    #[serde(skip)]
    threads: ThreadPattern,
    /// Instructions that it has been seen at.
    #[serde(skip)]
    addresses: &'static [AddressPattern],
    /// If the thread and one of these fit.
    #[serde(skip)]
    by_place: Confidence,
    /// If only the thread fits.
    #[serde(skip)]
    by_name: Option<Confidence>,
}

/// Known code that a group of traps may be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Suspicion {
    /// The code.
    #[serde(rename = "culprit")]
    pub splitter: &'static KnownSplitter,
    /// How much there is to it.
    pub confidence: Confidence,
}

/// How much there is to a suspicion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// It looks like it, and other code may look the same.
    Possible,
    /// It is peculiar enough that hardly anything else is meant.
    Likely,
    /// Both who did it and the instruction have been reported before.
    Reported,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ThreadPattern {
    /// Threads of one of these names.
    Comm(&'static [&'static str]),
    /// Code of a guest, whichever VMM runs it.
    Guest,
    /// Code of a guest of this one.
    GuestOf(&'static [ProgramKind]),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum AddressPattern {
    At(u64),
    /// At this offset in a page, in this range.
    Offset(u16, RangeInclusive<u64>),
    Windows(u32),
    AnywhereInWindows,
}

impl Group {
    /// Who it may be, as far as there is a report that it looks like; the best founded suspicion.
    #[must_use]
    pub fn suspicion(&self) -> Option<Suspicion> {
        let found = KNOWN.iter().filter_map(|splitter| {
            let confidence = splitter.confidence(self)?;
            Some(Suspicion {
                splitter,
                confidence,
            })
        });
        // The first one of those that are equal.
        found.rev().max_by_key(|suspicion| suspicion.confidence)
    }
}

impl KnownSplitter {
    fn confidence(&self, group: &Group) -> Option<Confidence> {
        if !self.threads.is(group) {
            return None;
        }
        let is_there = self.addresses.iter().any(|place| place.is_of(group));
        is_there.then_some(self.by_place).or(self.by_name)
    }
}

impl ThreadPattern {
    fn is(&self, group: &Group) -> bool {
        let may_be_a_guest = group.space != super::Space::Program;
        match self {
            ThreadPattern::Comm(names) => {
                let mut comms = group.threads.iter().map(|thread| &thread.comm[..]);
                comms.any(|comm| names.iter().any(|name| name.as_bytes() == comm))
            }
            ThreadPattern::Guest => may_be_a_guest,
            ThreadPattern::GuestOf(kinds) => may_be_a_guest && kinds.contains(&group.program.kind),
        }
    }
}

impl AddressPattern {
    fn is_of(&self, group: &Group) -> bool {
        let mut addresses = group.addresses.iter().map(|address| address.address);
        match self {
            AddressPattern::At(place) => addresses.any(|address| address == *place),
            AddressPattern::Offset(offset, range) => {
                group.fingerprint == Fingerprint::PageOffset(*offset)
                    && addresses.any(|address| range.contains(&address))
            }
            AddressPattern::Windows(bits) => group.fingerprint == Fingerprint::WindowsKernel(*bits),
            AddressPattern::AnywhereInWindows => {
                matches!(group.fingerprint, Fingerprint::WindowsKernel(_))
            }
        }
    }
}
