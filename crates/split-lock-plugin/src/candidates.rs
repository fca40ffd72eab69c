//! The locked instructions that are in the emulator's cache of translated code.
//!
//! A callback gets a number of one of them. A program that makes code for ever makes the emulator empty its cache now and
//! then; all numbers are free then. So there are never more of them than translated instructions in the cache.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize};

use split_lock_find::records::Code;

/// The largest cache of QEMU (1 GiB) holds fewer locked instructions. Memory is taken only as far as it is used.
const MOST: usize = 1 << 21;
const WORDS: usize = 6;
const RECORD: usize = 5;

/// Pages that are all zero at first.
#[derive(Debug)]
pub(crate) struct Candidates {
    words: &'static [AtomicU64],
    count: AtomicUsize,
}

impl Candidates {
    /// How many bytes they need.
    pub(crate) const BYTES: usize = MOST * WORDS * 8;

    pub(crate) fn new(words: &'static [AtomicU64]) -> Self {
        Self {
            words,
            count: AtomicUsize::new(0),
        }
    }

    /// The number of a new one; `None` if there are too many.
    pub(crate) fn push(&self, code: &Code) -> Option<usize> {
        let number = self.count.fetch_add(1, Relaxed);
        let Some(words) = self.words_of(number) else {
            self.count.store(MOST, Relaxed);
            return None;
        };
        let values = [code.pc, code.bytes[0], code.bytes[1], code.shape, code.page];
        for (word, value) in words.iter().zip(values) {
            word.store(value, Relaxed);
        }
        words[RECORD].store(0, Release);
        Some(number)
    }

    /// The emulator has emptied its cache.
    pub(crate) fn clear(&self) {
        self.count.store(0, Relaxed);
    }

    pub(crate) fn code(&self, number: usize) -> Option<Code> {
        let words = self.words_of(number)?;
        let get = |word: usize| words[word].load(Relaxed);
        Some(Code {
            pc: get(0),
            bytes: [get(1), get(2)],
            shape: get(3),
            page: get(4),
        })
    }

    /// The number of its record, if it has one.
    pub(crate) fn record(&self, number: usize) -> Option<usize> {
        let known = self.words_of(number)?[RECORD].load(Acquire);
        (known as usize).checked_sub(1)
    }

    pub(crate) fn set_record(&self, number: usize, record: usize) {
        if let Some(words) = self.words_of(number) {
            words[RECORD].store(record as u64 + 1, Release);
        }
    }

    fn words_of(&self, number: usize) -> Option<&[AtomicU64]> {
        let start = number.checked_mul(WORDS)?;
        self.words.get(start..start.checked_add(WORDS)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(count: usize) -> Candidates {
        let words: Vec<_> = (0..count * WORDS).map(|_| AtomicU64::new(0)).collect();
        Candidates::new(words.leak())
    }

    #[test]
    fn a_number_leads_back_until_the_cache_is_emptied() {
        let all = candidates(2);
        let code = |pc| Code::new(pc, &[0x87, 0x07], Some(64));
        let first = all.push(&code(7)).unwrap();
        assert_eq!(all.code(first), Some(code(7)));
        assert_eq!(all.record(first), None);
        all.set_record(first, 0);
        assert_eq!(all.record(first), Some(0));
        all.push(&code(8)).unwrap();
        assert_eq!(all.push(&code(9)), None);
        assert_eq!(all.push(&code(9)), None);
        all.clear();
        assert_eq!(all.push(&code(9)), Some(0));
        assert_eq!(all.record(0), None);
    }
}
