//! What a thread has of its own.

use std::cell::Cell;
use std::ptr;

use super::calls::{self, ThreadId};
use super::run::Kicks;

/// In one place, because finding it is a function call in a library: whoever has it hands it on.
#[derive(Debug)]
pub(crate) struct Thread {
    /// It is at work here: what it calls now is our own, or a signal handler's.
    busy: Cell<bool>,
    pub(super) kicks: Kicks,
    /// For whom it was prepared, and its number there: a forked child has another.
    prepared: Cell<(*const (), i32)>,
}

thread_local! {
    static THREAD: Thread = const {
        Thread {
            busy: Cell::new(false),
            kicks: Kicks::none(),
            prepared: Cell::new((ptr::null(), 0)),
        }
    };
}

impl Thread {
    #[inline]
    pub(super) fn current() -> &'static Self {
        let thread = THREAD.with(ptr::from_ref);
        // SAFETY: nothing in it is dropped, so that it is there for as long as any code runs on this thread; and no other
        // thread can get the reference, as the cells in it are not Sync.
        unsafe { &*thread }
    }

    #[inline]
    pub(super) fn is_busy(&self) -> bool {
        self.busy.get()
    }

    /// What is called meanwhile on this thread goes straight to the kernel.
    #[inline]
    pub(super) fn while_busy<T>(&self, act: impl FnOnce() -> T) -> T {
        struct Restore<'a>(&'a Cell<bool>, bool);
        impl Drop for Restore<'_> {
            fn drop(&mut self) {
                self.0.set(self.1);
            }
        }
        let _restore = Restore(&self.busy, self.busy.replace(true));
        act()
    }

    /// The thread's number. `prepare` is called when it is first asked on behalf of `owner`, which lives as long as the process.
    #[inline]
    pub(crate) fn prepared_for<T>(&self, owner: &'static T, prepare: impl FnOnce()) -> ThreadId {
        let owner = ptr::from_ref(owner).cast();
        let (prepared_for, number) = self.prepared.get();
        if ptr::eq(prepared_for, owner) {
            return ThreadId(number);
        }
        prepare();
        let number = calls::thread_id();
        self.prepared.set((owner, number.0));
        number
    }
}
