//! Finds the lines that are worth reading, fast: hardly any line of a log is about split locks.

use memchr::memmem::Finder;

use crate::colour::ESCAPE;
use crate::line::without_soft_break;
use crate::message::LINUX_VERSION;

/// Many a line has `split` or `Split` and goes on in another way than ` lock` or `_lock`; see [`is_ours`].
const SPLIT: &[u8] = b"plit";

/// Every line that reads as more than [`Line::Other`](crate::line::Line::Other) holds one of these.
const IN_TEXT: [&[u8]; 5] = [
    SPLIT,
    b"bus_lock",
    LINUX_VERSION,
    b"MSR",
    b" alignment check",
];

/// The same, in an entry whose message is no text: `split` and `bus_l`, with and without spaces.
const IN_BYTES: [&[u8]; 4] = [
    b"115,112,108,105,116",
    b"115, 112, 108, 105, 116",
    b"98,117,115,95,108",
    b"98, 117, 115, 95, 108",
];

#[derive(Debug)]
pub(crate) struct Patterns {
    finders: Vec<Finder<'static>>,
}

impl Patterns {
    pub(crate) fn for_text() -> Self {
        Self::of(&IN_TEXT)
    }

    pub(crate) fn for_json() -> Self {
        Self::of(&[&IN_TEXT[..], &IN_BYTES].concat())
    }

    fn of(patterns: &[&'static [u8]]) -> Self {
        let patterns = patterns.iter();
        Patterns {
            finders: patterns.map(|pattern| Finder::new(*pattern)).collect(),
        }
    }

    pub(crate) fn any_in(&self, line: &[u8]) -> bool {
        self.finders
            .iter()
            .any(|finder| find(finder, line, 0).is_some())
    }
}

/// Where the pattern is, from `from` on.
fn find(finder: &Finder<'_>, text: &[u8], from: usize) -> Option<usize> {
    let mut hits = finder.find_iter(&text[from..]).map(|at| from + at);
    match finder.needle() {
        SPLIT => hits.find(|at| is_ours(&text[at + SPLIT.len()..])),
        _ => hits.next(),
    }
}

/// Whether [`SPLIT`] before this may be the kernel's: `split lock` or `split_lock`, or a line that ends, or
/// changes its colour, before it can be told.
fn is_ours(rest: &[u8]) -> bool {
    const LONGEST: usize = 8;
    let near = &rest[..rest.len().min(LONGEST)];
    let end = memchr::memchr2(b'\n', ESCAPE, near);
    let has_ended = end.is_some() || near.len() < LONGEST;
    let near = without_soft_break(near[..end.unwrap_or(near.len())].trim_ascii_end());
    let words: [&[u8]; 2] = [b" lock", b"_lock"];
    words
        .iter()
        .any(|word| near.starts_with(word) || (has_ended && word.starts_with(near)))
}

#[derive(Debug)]
pub(crate) struct PatternHits {
    /// For each pattern where it is next, unless it is not in the rest of the block.
    next: Vec<Option<usize>>,
}

impl PatternHits {
    pub(crate) fn new(patterns: &Patterns) -> Self {
        PatternHits {
            next: vec![Some(0); patterns.finders.len()],
        }
    }

    /// The first at or after `from`, which never goes back; it is looked for anew only where it must.
    pub(crate) fn at_or_after(
        &mut self,
        from: usize,
        block: &[u8],
        patterns: &Patterns,
    ) -> Option<usize> {
        for (next, finder) in self.next.iter_mut().zip(&patterns.finders) {
            if next.is_some_and(|next| next <= from) {
                *next = find(finder, block, from);
            }
        }
        self.next.iter().flatten().min().copied()
    }
}
