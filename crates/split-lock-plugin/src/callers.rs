//! The calls that have not returned, of each thread: who has called the code that splits a lock.
//!
//! Registers are told by no emulator before QEMU 9, and a return address has no fixed place without frame pointers. But a
//! CALL stores where it returns to, a RET loads it, and the emulator shows both. Memory at or below the place of such an
//! access belongs to calls that are over. So nothing has to be known of how the code was compiled.
//!
//! A jump out of a call (longjmp) leaves it here until the next CALL or RET further up; other stacks of the same thread
//! may end calls too early.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use split_lock_find::records::MOST_CALLERS;

/// Threads at a time; of more than that nothing is known.
const MOST_THREADS: usize = 4096;
/// Calls of a thread. Older ones are forgotten.
const MOST: usize = 16;
/// How many there are, the number of the next, and of each its place on the stack and where it returns to.
const WORDS: usize = 2 + 2 * MOST;

/// Pages that are all zero at first. Each thread writes to its own words alone.
#[derive(Debug)]
pub(crate) struct CallStacks(&'static [AtomicU64]);

impl CallStacks {
    /// How many bytes they need.
    pub(crate) const BYTES: usize = MOST_THREADS * WORDS * 8;

    pub(crate) fn new(words: &'static [AtomicU64]) -> Self {
        Self(words)
    }

    fn of(&self, vcpu: u32) -> Option<CallStack<'_>> {
        let start = vcpu as usize * WORDS;
        let words = self.0.get(start..start + WORDS)?;
        let ([count, next], calls) = words.split_first_chunk()?;
        Some(CallStack { count, next, calls })
    }

    /// A CALL has stored where it returns to. True if no other is known to be outside of it.
    pub(crate) fn call(&self, vcpu: u32, place: u64, return_address: u64) -> bool {
        self.of(vcpu)
            .is_some_and(|it| it.call(place, return_address))
    }

    /// A RET has loaded it.
    pub(crate) fn end(&self, vcpu: u32, place: u64) {
        if let Some(stack) = self.of(vcpu) {
            stack.end(place);
        }
    }

    /// A thread begins, which may have the number of one that has ended.
    pub(crate) fn clear(&self, vcpu: u32) {
        if let Some(stack) = self.of(vcpu) {
            stack.count.store(0, Relaxed);
        }
    }

    /// Where the calls return to, the innermost first, and then zeros.
    pub(crate) fn return_addresses(&self, vcpu: u32) -> [u64; MOST_CALLERS] {
        let mut all = [0; MOST_CALLERS];
        if let Some(stack) = self.of(vcpu) {
            let count = stack.count.load(Relaxed);
            let inner = (1..=count).map(|n| stack.return_address(n).load(Relaxed));
            all.iter_mut()
                .zip(inner)
                .for_each(|(it, address)| *it = address);
        }
        all
    }
}

struct CallStack<'a> {
    count: &'a AtomicU64,
    next: &'a AtomicU64,
    calls: &'a [AtomicU64],
}

impl CallStack<'_> {
    fn call(&self, place: u64, return_address: u64) -> bool {
        let outer = self.end(place);
        let next = self.next.load(Relaxed).wrapping_add(1);
        self.next.store(next, Relaxed);
        self.place(1).store(place, Relaxed);
        self.return_address(1).store(return_address, Relaxed);
        self.count.store((outer + 1).min(MOST as u64), Relaxed);
        outer == 0
    }

    /// How many are not over.
    fn end(&self, place: u64) -> u64 {
        let before = self.count.load(Relaxed);
        let mut count = before;
        while count > 0 && self.place(1 + before - count).load(Relaxed) <= place {
            count -= 1;
        }
        self.count.store(count, Relaxed);
        let next = self.next.load(Relaxed);
        self.next.store(next.wrapping_sub(before - count), Relaxed);
        count
    }

    /// Of the innermost but `n - 1`.
    fn place(&self, n: u64) -> &AtomicU64 {
        &self.calls[self.index(n)]
    }

    fn return_address(&self, n: u64) -> &AtomicU64 {
        &self.calls[self.index(n) + 1]
    }

    fn index(&self, n: u64) -> usize {
        (self.next.load(Relaxed).wrapping_sub(n) as usize % MOST) * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stacks(threads: usize) -> CallStacks {
        let words: Vec<_> = (0..threads * WORDS).map(|_| AtomicU64::new(0)).collect();
        CallStacks::new(words.leak())
    }

    fn known(all: &CallStacks, vcpu: u32) -> Vec<u64> {
        let addresses = all.return_addresses(vcpu).into_iter();
        addresses.take_while(|&it| it != 0).collect()
    }

    #[test]
    fn calls_are_known_until_they_return() {
        let all = stacks(2);
        assert!(all.call(0, 0x7f8, 1));
        assert!(!all.call(0, 0x7e8, 2));
        assert!(!all.call(0, 0x7d8, 3));
        assert!(all.call(1, 0x9f8, 9));
        assert_eq!(known(&all, 0), [3, 2, 1]);
        all.end(0, 0x7d8);
        assert_eq!(known(&all, 0), [2, 1]);
        // The same place again.
        all.call(0, 0x7d8, 4);
        assert_eq!(known(&all, 0), [4, 2, 1]);
        all.clear(0);
        assert_eq!((known(&all, 0), known(&all, 1)), (vec![], vec![9]));
    }

    #[test]
    fn a_jump_out_of_calls_ends_them_with_the_next_call_or_return() {
        let all = stacks(1);
        for n in 0..5 {
            all.call(0, 0x800 - 8 * n, n + 1);
        }
        all.call(0, 0x7f8, 7);
        assert_eq!(known(&all, 0), [7, 1]);
        all.call(0, 0x7f0, 8);
        all.end(0, 0x7f8);
        assert_eq!(known(&all, 0), [1]);
    }

    #[test]
    fn of_many_calls_the_innermost_are_known() {
        let all = stacks(1);
        let last = 100;
        for n in 1..=last {
            all.call(0, 0x8000 - 8 * n, n);
        }
        assert_eq!(known(&all, 0)[..2], [last, last - 1]);
        for n in (last - 50..=last).rev() {
            all.end(0, 0x8000 - 8 * n);
        }
        assert!(known(&all, 0).is_empty(), "those have been forgotten");
        all.call(0, 0x8000, 5);
        assert_eq!(known(&all, 0), [5]);
    }

    #[test]
    fn a_thread_too_many_has_no_calls() {
        let all = stacks(1);
        assert!(!all.call(1, 0x800, 1));
        assert!(known(&all, 1).is_empty());
        all.call(u32::MAX, 0x800, 1);
    }
}
