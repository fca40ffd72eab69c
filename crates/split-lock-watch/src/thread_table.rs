//! All threads that split locks, and the windows of all CPUs.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::event::{Event, EventKind};
use crate::livelock::{LivelockThreshold, ThreadState};
use crate::thread_stats::{ThreadStats, Totals};

/// Maximum number of tracked threads.
pub const MAX_THREADS: usize = 4096;

/// What has been seen since the watch began: the statistics of each thread, and for how long CPUs were without detection.
///
/// Time and events go in, in the order of time; nothing is read and nothing waits.
///
/// ```
/// use std::time::Duration;
/// use split_lock_watch::{Event, EventKind, LivelockThreshold, ThreadState, ThreadTable, TrapOrigin};
///
/// let mut table = ThreadTable::new(LivelockThreshold::new(Duration::from_millis(8)));
/// let step = |at_ms: u64, kind| Event { at_ns: at_ms * 1_000_000, cpu: 0, tid: 7, pid: 7, kind };
/// for kick in 0..200 {
///     let trap = EventKind::Trap { origin: TrapOrigin::Guest, rip: Some(0x1000) };
///     table.record(&step(kick, trap));
///     table.record(&step(kick + 1, EventKind::Slept { left_ms: 12 }));
///     table.record(&step(kick + 1, EventKind::Back { retry: true }));
/// }
/// let (_, stats) = table.threads().next().unwrap();
/// assert_eq!(stats.state(), ThreadState::Livelocked);
/// assert_eq!(stats.totals().interrupted_asleep, 200);
/// ```
#[derive(Debug, Default)]
pub struct ThreadTable {
    threshold: LivelockThreshold,
    threads: HashMap<ThreadId, ThreadStats>,
    /// By CPU: since when its detection is off, and who has switched it off.
    windows: BTreeMap<u32, (u64, ThreadId)>,
    unprotected: Duration,
    changes: Vec<StateChange>,
    last_removed: Vec<(ThreadId, ThreadStats)>,
    removed: RemovedThreads,
}

/// A thread, and which one of those that have had its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadId {
    /// The id of its process.
    pub pid: u32,
    /// Its own.
    pub tid: u32,
}

/// A thread is in another state than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateChange {
    /// When, on CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// The thread.
    pub thread: ThreadId,
    /// Its state before.
    pub from: ThreadState,
    /// Its state now.
    pub to: ThreadState,
}

/// Threads that were removed from the table, because they have ended or had to make room for others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemovedThreads {
    /// How many there were.
    pub threads: u64,
    /// What had become of their traps.
    pub totals: Totals,
}

impl ThreadTable {
    /// An empty one, for a kernel with this threshold.
    #[must_use]
    pub fn new(threshold: LivelockThreshold) -> Self {
        Self {
            threshold,
            ..Self::default()
        }
    }

    /// Takes note of what has happened. What is older than what was seen last is taken as if it were not.
    pub fn record(&mut self, event: &Event) {
        let Event {
            at_ns, cpu, kind, ..
        } = *event;
        let thread = event.thread();
        match kind {
            EventKind::Detection { on: true, .. } => self.close_window(cpu, at_ns),
            EventKind::Detection { on: false, .. } => {
                self.windows.entry(cpu).or_insert((at_ns, thread));
            }
            _ => {}
        }
        if !self.threads.contains_key(&thread) {
            if !begins_something(kind) {
                return;
            }
            self.make_room();
        }
        let new = || ThreadStats::new(at_ns);
        let stats = self.threads.entry(thread).or_insert_with(new);
        let from = stats.state();
        stats.record(at_ns, cpu, kind, self.threshold);
        self.changes.extend(change(at_ns, thread, from, stats));
    }

    /// Takes note of the time: threads that have long done nothing are quiet.
    pub fn advance_to(&mut self, now_ns: u64) {
        for (&thread, stats) in &mut self.threads {
            let from = stats.state();
            stats.advance_to(now_ns);
            self.changes.extend(change(now_ns, thread, from, stats));
        }
    }

    /// Removes a thread that is no more. Its traps stay in [`ThreadTable::removed_totals`].
    pub fn remove(&mut self, thread: ThreadId) {
        if let Some(stats) = self.threads.remove(&thread) {
            self.removed.threads += 1;
            self.removed.totals.add(stats.totals());
            // For whoever never asks for them.
            if self.last_removed.len() == MAX_THREADS {
                self.last_removed.remove(0);
            }
            self.last_removed.push((thread, stats));
        }
    }

    /// Threads that were removed since this was last asked, because they are no more, or because they had to make room
    /// for others: the last of them, [`MAX_THREADS`] at most.
    pub fn take_removed(&mut self) -> Vec<(ThreadId, ThreadStats)> {
        std::mem::take(&mut self.last_removed)
    }

    /// Each thread that has met detection, in no order.
    pub fn threads(&self) -> impl Iterator<Item = (ThreadId, &ThreadStats)> {
        self.threads.iter().map(|(&thread, stats)| (thread, stats))
    }

    /// Threads of which it is to be seen whether they are on a CPU, and is not seen so far.
    pub(crate) fn threads_to_follow(&self) -> impl Iterator<Item = ThreadId> {
        let to_follow = |(_, stats): &(_, &ThreadStats)| stats.is_to_be_followed();
        self.threads().filter(to_follow).map(|(thread, _)| thread)
    }

    /// The statistics of one thread.
    #[must_use]
    pub fn thread(&self, thread: ThreadId) -> Option<&ThreadStats> {
        self.threads.get(&thread)
    }

    /// Changes of threads' states since this was last asked, in the order of time.
    pub fn take_changes(&mut self) -> Vec<StateChange> {
        std::mem::take(&mut self.changes)
    }

    /// CPUs that are in a window now.
    #[must_use]
    pub fn cpus_off(&self) -> Vec<u32> {
        self.windows.keys().copied().collect()
    }

    /// For how long detection was off, summed over CPUs; windows that are still open do not count.
    #[must_use]
    pub fn unprotected(&self) -> Duration {
        self.unprotected
    }

    /// Threads that are no longer in the table.
    #[must_use]
    pub fn removed_totals(&self) -> &RemovedThreads {
        &self.removed
    }

    /// What has become of all traps.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = self.removed.totals;
        for stats in self.threads.values() {
            totals.add(stats.totals());
        }
        totals
    }

    fn close_window(&mut self, cpu: u32, at_ns: u64) {
        let Some((since, thread)) = self.windows.remove(&cpu) else {
            return;
        };
        self.unprotected += Duration::from_nanos(at_ns.saturating_sub(since));
        if let Some(stats) = self.threads.get_mut(&thread) {
            stats.close_window(cpu, at_ns);
        }
    }

    /// Whoever has been silent for longest goes first.
    fn make_room(&mut self) {
        if self.threads.len() < MAX_THREADS {
            return;
        }
        let oldest = self.threads.iter().min_by_key(|(_, stats)| stats.last_ns());
        if let Some((&key, _)) = oldest {
            self.remove(key);
        }
    }
}

fn change(
    at_ns: u64,
    thread: ThreadId,
    from: ThreadState,
    stats: &ThreadStats,
) -> Option<StateChange> {
    let to = stats.state();
    (from != to).then_some(StateChange {
        at_ns,
        thread,
        from,
        to,
    })
}

/// Whether a thread that was never seen before is tracked from this on.
fn begins_something(kind: EventKind) -> bool {
    match kind {
        EventKind::Trap { .. } | EventKind::Asleep { .. } => true,
        EventKind::Detection { on, of } => of.is_some() && !on,
        EventKind::Slept { .. } | EventKind::Back { .. } => false,
        EventKind::SwitchesSeen | EventKind::OffCpu { .. } | EventKind::OnCpu => false,
    }
}

#[cfg(test)]
mod tests {
    use split_lock_model::handler::TrapOrigin;

    use super::*;

    const TRAP: EventKind = EventKind::Trap {
        origin: TrapOrigin::Guest,
        rip: None,
    };

    const PAST: EventKind = EventKind::Detection {
        on: false,
        of: Some((TrapOrigin::User, None)),
    };
    const OVER: EventKind = EventKind::Detection { on: true, of: None };

    fn step(at_ns: u64, cpu: u32, tid: u32, kind: EventKind) -> Event {
        let pid = tid;
        Event {
            at_ns,
            cpu,
            tid,
            pid,
            kind,
        }
    }

    #[test]
    fn windows_belong_to_cpus_and_any_thread_may_close_them() {
        let mut table = ThreadTable::new(LivelockThreshold::default());
        table.record(&step(0, 3, 7, TRAP));
        table.record(&step(10, 3, 7, PAST));
        table.record(&step(20, 1, 8, PAST));
        assert_eq!(table.cpus_off(), [1, 3]);
        // A worker of the kernel's.
        table.record(&step(25, 3, 99, OVER));
        assert_eq!(
            (table.cpus_off(), table.unprotected().as_nanos()),
            (vec![1], 15)
        );
        let mut tids: Vec<_> = table.threads().map(|(key, _)| key.tid).collect();
        tids.sort_unstable();
        assert_eq!(tids, [7, 8]);
        assert_eq!(table.totals().windows, 2);
    }

    #[test]
    fn changes_are_told_once() {
        let mut table = ThreadTable::new(LivelockThreshold::default());
        table.record(&step(0, 0, 7, PAST));
        let change = |at_ns, from, to| {
            let thread = ThreadId { pid: 7, tid: 7 };
            StateChange {
                at_ns,
                thread,
                from,
                to,
            }
        };
        assert_eq!(
            table.take_changes(),
            [change(0, ThreadState::Quiet, ThreadState::Slowed)]
        );
        assert_eq!(table.take_changes(), []);
        table.advance_to(10_000_000_000);
        let quiet = change(10_000_000_000, ThreadState::Slowed, ThreadState::Quiet);
        assert_eq!(table.take_changes(), [quiet]);
    }

    #[test]
    fn the_longest_silent_thread_makes_room_and_stays_in_the_totals() {
        let mut table = ThreadTable::new(LivelockThreshold::default());
        let most = u32::try_from(MAX_THREADS).unwrap();
        for tid in 0..most + 10 {
            table.record(&step(tid.into(), 0, tid, PAST));
        }
        assert_eq!(table.threads().count(), MAX_THREADS);
        assert!(table.thread(ThreadId { pid: 9, tid: 9 }).is_none());
        assert!(table.thread(ThreadId { pid: 10, tid: 10 }).is_some());
        assert_eq!(table.removed_totals().threads, 10);
        assert_eq!(table.take_removed().len(), 10);
        assert_eq!(table.totals().windows, u64::from(most) + 10);
    }
}
