//! Which thread is in KVM_RUN for a vCPU, for other threads to see.

use std::panic;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use split_lock_assist::pause::Kick;

use crate::sys::{KickSignal, ThreadId};

/// A thread that is still in KVM_RUN after so many kicks, one a millisecond, does not take the signal. They are counted
/// because time also passes while the whole program is stopped.
const UNANSWERED: u32 = 1000;

/// No vCPU is left alone for longer.
const LONGEST_BREAK: Duration = Duration::from_millis(1600);

/// Written by the thread that runs the vCPU, with plain stores, and read by all. On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Presence {
    thread: AtomicI32,
    /// Odd while the thread is in KVM_RUN; another number each time.
    entry: AtomicU64,
    /// The kernel was seen punishing the thread.
    suspect: AtomicBool,
    /// A signal was sent since the thread last came out.
    kicked: AtomicBool,
    /// How often somebody who waits has sent one since then.
    kicks_for_pause: AtomicU32,
    /// When it may be kicked again on suspicion, in ns since [`now`] began.
    left_alone_until: AtomicU64,
    break_ns: AtomicU64,
}

/// A thread in KVM_RUN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inside {
    pub(crate) thread: ThreadId,
    pub(crate) entry: u64,
}

/// What a kick panics with that has remained without an answer, so that nothing is done that relies on it.
#[derive(Debug)]
pub(crate) struct Unreachable;

/// The thread is in KVM_RUN until this is dropped.
#[derive(Debug)]
pub(crate) struct Entered<'a>(&'a Presence);

impl Presence {
    /// Whoever has to see it at once asks the gate, which the thread enters after this and leaves before.
    pub(crate) fn enter(&self, thread: ThreadId) -> Entered<'_> {
        self.thread.store(thread.0, Relaxed);
        self.entry
            .store(self.entry.load(Relaxed).wrapping_add(1) | 1, Release);
        Entered(self)
    }

    pub(crate) fn inside(&self) -> Option<Inside> {
        let entry = self.entry.load(Acquire);
        let thread = ThreadId(self.thread.load(Acquire));
        let is_inside = entry & 1 == 1 && self.entry.load(Acquire) == entry;
        is_inside.then_some(Inside { thread, entry })
    }

    pub(crate) fn suspect(&self) {
        self.suspect.store(true, Release);
    }

    pub(crate) fn take_suspect(&self) -> bool {
        // Mostly it is not, and a load is enough to see that.
        self.suspect.load(Relaxed) && self.suspect.swap(false, Acquire)
    }

    /// There is something for the two below to take.
    #[inline]
    pub(crate) fn was_disturbed(&self) -> bool {
        self.suspect.load(Relaxed) || self.kicked.load(Relaxed)
    }

    /// Whether a signal was sent to the thread since this was last asked.
    pub(crate) fn take_kicked(&self) -> bool {
        let kicked = self.kicked.load(Relaxed) && self.kicked.swap(false, Acquire);
        if kicked {
            self.kicks_for_pause.store(0, Relaxed);
        }
        kicked
    }

    /// Makes the thread leave KVM_RUN, if it is there.
    pub(crate) fn kick(&self, signal: KickSignal) -> bool {
        let Some(inside) = self.inside() else {
            return false;
        };
        self.kicked.store(true, Release);
        signal.send(inside.thread)
    }

    /// The same for whoever waits for it to be outside.
    ///
    /// # Panics
    /// If it does not answer: whoever waits must not go on as if it were outside, nor wait for ever.
    pub(crate) fn kick_for_pause(&self, signal: KickSignal) -> Kick {
        if self.kicks_for_pause.fetch_add(1, Relaxed) > UNANSWERED {
            panic::resume_unwind(Box::new(Unreachable));
        }
        if self.kick(signal) {
            Kick::Sent
        } else {
            Kick::NotSent
        }
    }

    /// Nothing could be done for it: it is not kicked on suspicion for so long, and twice as long each further time.
    pub(crate) fn leave_alone(&self, shortest: Duration) {
        let longest = LONGEST_BREAK.as_nanos() as u64;
        let shortest = shortest.as_nanos() as u64;
        let break_ns = self.break_ns.load(Relaxed).clamp(shortest, longest);
        self.left_alone_until.store(now() + break_ns, Relaxed);
        self.break_ns.store(2 * break_ns, Relaxed);
    }

    /// Something could be done for it.
    pub(crate) fn watch_closely(&self) {
        self.break_ns.store(0, Relaxed);
        self.left_alone_until.store(0, Relaxed);
    }

    pub(crate) fn is_left_alone(&self) -> bool {
        now() < self.left_alone_until.load(Relaxed)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let entry = &self.0.entry;
        entry.store(entry.load(Relaxed).wrapping_add(1), Release);
    }
}

/// Nanoseconds since this was first called.
pub(crate) fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_seen_inside_for_as_long_as_it_is_and_each_entry_is_another() {
        let presence = Presence::default();
        assert_eq!(presence.inside(), None);
        let first = {
            let _entered = presence.enter(ThreadId(7));
            presence.inside().unwrap()
        };
        assert_eq!(presence.inside(), None);
        let _entered = presence.enter(ThreadId(8));
        let second = presence.inside().unwrap();
        assert_eq!((first.thread, second.thread), (ThreadId(7), ThreadId(8)));
        assert_ne!(first.entry, second.entry);
    }

    #[test]
    fn breaks_become_longer_until_something_can_be_done() {
        let presence = Presence::default();
        let mut last = 0;
        for _ in 0..10 {
            presence.leave_alone(Duration::from_millis(100));
            let length = presence.left_alone_until.load(Relaxed) - now();
            assert!(length + 1_000_000 > last && length <= LONGEST_BREAK.as_nanos() as u64);
            last = length;
        }
        assert!(presence.is_left_alone());
        presence.watch_closely();
        assert!(!presence.is_left_alone());
    }

    #[test]
    fn a_suspicion_is_taken_once() {
        let presence = Presence::default();
        assert!(!presence.take_suspect());
        presence.suspect();
        assert!(presence.take_suspect() && !presence.take_suspect());
    }
}
