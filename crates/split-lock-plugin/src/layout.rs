//! What the program's system calls and first instructions tell about its memory.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// More stacks of threads are not remembered.
const MOST_STACKS: usize = 4096;

/// Addresses are the program's.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// An address in the first thread's stack; 0 as long as none is known.
    stack: AtomicU64,
    heap_start: AtomicU64,
    heap_end: AtomicU64,
    /// Whoever cannot have it does without: a process that was forked meanwhile would wait for ever.
    thread_stacks: Mutex<Vec<(u64, u64)>>,
}

impl Layout {
    /// What is known is kept.
    pub(crate) fn set_stack(&self, address: u64) {
        let _known = self.stack.compare_exchange(0, address, Relaxed, Relaxed);
    }

    pub(crate) fn is_stack(&self, start: u64, end: u64) -> bool {
        let stack = self.stack.load(Relaxed);
        stack != 0 && (start..end).contains(&stack)
    }

    /// brk(2) has returned this.
    pub(crate) fn set_heap_end(&self, end: u64) {
        let _known = self.heap_start.compare_exchange(0, end, Relaxed, Relaxed);
        self.heap_end.store(end, Relaxed);
    }

    /// Where the heap begins, if it holds this address.
    pub(crate) fn heap_of(&self, address: u64) -> Option<u64> {
        let start = self.heap_start.load(Relaxed);
        (start..self.heap_end.load(Relaxed))
            .contains(&address)
            .then_some(start)
    }

    /// mmap(2) has made memory for a stack.
    pub(crate) fn add_thread_stack(&self, start: u64, bytes: u64) {
        if let Ok(mut stacks) = self.thread_stacks.try_lock() {
            stacks.retain(|&(other, _)| other != start);
            if stacks.len() < MOST_STACKS {
                stacks.push((start, start.saturating_add(bytes)));
            }
        }
    }

    pub(crate) fn is_thread_stack(&self, address: u64) -> bool {
        let stacks = self.thread_stacks.try_lock();
        stacks.is_ok_and(|stacks| {
            let mut stacks = stacks.iter();
            stacks.any(|&(start, end)| (start..end).contains(&address))
        })
    }
}
