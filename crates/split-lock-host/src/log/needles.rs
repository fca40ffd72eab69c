//! Finds the lines that are worth reading, fast: hardly any line of a log is about split locks.

use memchr::memmem::Finder;

use super::line::LINUX_VERSION;

/// Every line that reads as more than [`Line::Other`](super::line::Line::Other) holds one of these.
const IN_TEXT: [&[u8]; 3] = [b"split", b"bus_lock", LINUX_VERSION];

/// The same, in an entry whose message is no text: `split` and `bus_l`, with and without spaces.
const IN_BYTES: [&[u8]; 4] = [
    b"115,112,108,105,116",
    b"115, 112, 108, 105, 116",
    b"98,117,115,95,108",
    b"98, 117, 115, 95, 108",
];

#[derive(Debug)]
pub(super) struct Needles {
    finders: Vec<Finder<'static>>,
}

impl Needles {
    /// For a log that begins with this byte.
    pub(super) fn for_log(first: u8) -> Self {
        let is_json = first == b'{';
        let in_bytes = IN_BYTES.iter().filter(|_| is_json);
        let needles = IN_TEXT.iter().chain(in_bytes);
        Needles {
            finders: needles.map(|needle| Finder::new(*needle)).collect(),
        }
    }

    pub(super) fn are_in(&self, line: &[u8]) -> bool {
        self.finders
            .iter()
            .any(|finder| finder.find(line).is_some())
    }
}

/// Where needles are in a block, from the left to the right.
#[derive(Debug)]
pub(super) struct Hits {
    /// For each needle where it is next, unless it is not in the rest of the block.
    next: Vec<Option<usize>>,
}

impl Hits {
    pub(super) fn new(needles: &Needles) -> Self {
        Hits {
            next: vec![Some(0); needles.finders.len()],
        }
    }

    /// The first at or after `from`, which never goes back; it is looked for anew only where it must.
    pub(super) fn at_or_after(
        &mut self,
        from: usize,
        block: &[u8],
        needles: &Needles,
    ) -> Option<usize> {
        for (next, finder) in self.next.iter_mut().zip(&needles.finders) {
            if next.is_some_and(|next| next <= from) {
                *next = finder.find(&block[from..]).map(|at| from + at);
            }
        }
        self.next.iter().flatten().min().copied()
    }
}
