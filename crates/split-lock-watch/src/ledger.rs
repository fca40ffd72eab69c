//! All threads that split locks, and the windows of all CPUs.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::account::{Account, State, Totals};
use super::happening::{Happening, What};
use super::patience::Patience;

/// Of no more threads an account is kept.
pub const MOST_WATCHED: usize = 4096;

/// What has been seen since the watch began: an account for each thread, and what is told of the CPUs.
///
/// Time and happenings go in, in the order of time; nothing is read and nothing waits.
///
/// ```
/// use std::time::Duration;
/// use split_lock_watch::{Happening, Ledger, Patience, State, Way, What};
///
/// let mut ledger = Ledger::new(Patience::new(Duration::from_millis(8)));
/// let step = |at_ms: u64, what| Happening { at_ns: at_ms * 1_000_000, cpu: 0, tid: 7, pid: 7, what };
/// for kick in 0..200 {
///     let trap = What::Trap { way: Way::Guest, rip: Some(0x1000) };
///     ledger.see(&step(kick, trap));
///     ledger.see(&step(kick + 1, What::Slept { left_ms: 12 }));
///     ledger.see(&step(kick + 1, What::Back { retry: true }));
/// }
/// let (_, account) = ledger.threads().next().unwrap();
/// assert_eq!(account.state(), State::Livelocked);
/// assert_eq!(account.totals().interrupted_asleep, 200);
/// ```
#[derive(Debug)]
pub struct Ledger {
    patience: Patience,
    threads: HashMap<Key, Account>,
    /// By CPU: since when its detection is off.
    windows: BTreeMap<u32, u64>,
    unprotected: Duration,
    changes: Vec<Change>,
    closed: Vec<(Key, Account)>,
    forgotten: Forgotten,
}

/// A thread, and which one of those that have had its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The id of its process.
    pub pid: u32,
    /// Its own.
    pub tid: u32,
}

/// A thread fares otherwise than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// When, on CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// Who.
    pub thread: Key,
    /// As before.
    pub from: State,
    /// As now.
    pub to: State,
}

/// Threads whose accounts had to make room for others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// How many there were.
    pub threads: u64,
    /// What had become of their traps.
    pub totals: Totals,
}

impl Ledger {
    /// An empty one, for a kernel that has this much patience.
    #[must_use]
    pub fn new(patience: Patience) -> Self {
        Self {
            patience,
            threads: HashMap::new(),
            windows: BTreeMap::new(),
            unprotected: Duration::ZERO,
            changes: vec![],
            closed: vec![],
            forgotten: Forgotten::default(),
        }
    }

    /// Takes note of what has happened. What is older than what was seen last is taken as if it were not.
    pub fn see(&mut self, happening: &Happening) {
        let Happening { at_ns, what, .. } = *happening;
        if let What::Detection { on, .. } = what {
            self.switch(happening.cpu, at_ns, on);
        }
        let key = Key {
            pid: happening.pid,
            tid: happening.tid,
        };
        let patience = self.patience;
        if let Some(account) = self.threads.get_mut(&key) {
            let from = account.state();
            account.see(at_ns, what, patience);
            note(&mut self.changes, at_ns, key, from, account.state());
        } else if begins_something(what) {
            self.make_room();
            let mut account = Account::new(at_ns);
            account.see(at_ns, what, patience);
            note(&mut self.changes, at_ns, key, State::Quiet, account.state());
            self.threads.insert(key, account);
        }
    }

    /// Takes note of the time: threads that have long done nothing are quiet.
    pub fn wait_until(&mut self, now_ns: u64) {
        for (&thread, account) in &mut self.threads {
            let from = account.state();
            account.wait(now_ns);
            note(&mut self.changes, now_ns, thread, from, account.state());
        }
    }

    /// Closes the account of a thread that is no more. Its traps stay in [`Ledger::forgotten`].
    pub fn close(&mut self, thread: Key) {
        if let Some(account) = self.threads.remove(&thread) {
            self.forgotten.threads += 1;
            self.forgotten.totals.add(account.totals());
            // For whoever never asks for them.
            if self.closed.len() == MOST_WATCHED {
                self.closed.remove(0);
            }
            self.closed.push((thread, account));
        }
    }

    /// Accounts that were closed since this was last asked, because their threads are no more, or because they had to
    /// make room for others: the last of them, [`MOST_WATCHED`] at most.
    pub fn take_closed(&mut self) -> Vec<(Key, Account)> {
        std::mem::take(&mut self.closed)
    }

    /// Each thread that has met detection, in no order.
    pub fn threads(&self) -> impl Iterator<Item = (Key, &Account)> {
        self.threads.iter().map(|(&key, account)| (key, account))
    }

    /// The account of one thread.
    #[must_use]
    pub fn thread(&self, thread: Key) -> Option<&Account> {
        self.threads.get(&thread)
    }

    /// Which threads fare otherwise than when this was last asked, in the order of time.
    pub fn take_changes(&mut self) -> Vec<Change> {
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

    /// Accounts that are no more.
    #[must_use]
    pub fn forgotten(&self) -> &Forgotten {
        &self.forgotten
    }

    /// What has become of all traps.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = self.forgotten.totals;
        for account in self.threads.values() {
            totals.add(account.totals());
        }
        totals
    }

    fn switch(&mut self, cpu: u32, at_ns: u64, on: bool) {
        if on {
            if let Some(since) = self.windows.remove(&cpu) {
                self.unprotected += Duration::from_nanos(at_ns.saturating_sub(since));
            }
        } else {
            self.windows.entry(cpu).or_insert(at_ns);
        }
    }

    /// Whoever has been silent for longest goes first.
    fn make_room(&mut self) {
        if self.threads.len() < MOST_WATCHED {
            return;
        }
        let oldest = self
            .threads
            .iter()
            .min_by_key(|(_, account)| account.last_ns());
        if let Some((&key, _)) = oldest {
            self.close(key);
        }
    }
}

fn note(changes: &mut Vec<Change>, at_ns: u64, thread: Key, from: State, to: State) {
    if from != to {
        changes.push(Change {
            at_ns,
            thread,
            from,
            to,
        });
    }
}

/// Whether a thread that was never seen before gets an account for this.
fn begins_something(what: What) -> bool {
    match what {
        What::Trap { .. } | What::Asleep { .. } => true,
        What::Detection { on, of } => of.is_some() && !on,
        What::Slept { .. } | What::Back { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::happening::Way;
    use super::*;

    const TRAP: What = What::Trap {
        way: Way::Guest,
        rip: None,
    };

    const PAST: What = What::Detection {
        on: false,
        of: Some((Way::User, None)),
    };
    const OVER: What = What::Detection { on: true, of: None };

    fn step(at_ns: u64, cpu: u32, tid: u32, what: What) -> Happening {
        let pid = tid;
        Happening {
            at_ns,
            cpu,
            tid,
            pid,
            what,
        }
    }

    #[test]
    fn windows_belong_to_cpus_and_are_closed_by_whom_it_concerns_not() {
        let mut ledger = Ledger::new(Patience::default());
        ledger.see(&step(0, 3, 7, TRAP));
        ledger.see(&step(10, 3, 7, PAST));
        ledger.see(&step(20, 1, 8, PAST));
        assert_eq!(ledger.cpus_off(), [1, 3]);
        // A worker of the kernel's.
        ledger.see(&step(25, 3, 99, OVER));
        assert_eq!(
            (ledger.cpus_off(), ledger.unprotected().as_nanos()),
            (vec![1], 15)
        );
        let mut tids: Vec<_> = ledger.threads().map(|(key, _)| key.tid).collect();
        tids.sort_unstable();
        assert_eq!(tids, [7, 8]);
        assert_eq!(ledger.totals().windows, 2);
    }

    #[test]
    fn changes_are_told_once() {
        let mut ledger = Ledger::new(Patience::default());
        ledger.see(&step(0, 0, 7, PAST));
        let change = |at_ns, from, to| {
            let thread = Key { pid: 7, tid: 7 };
            Change {
                at_ns,
                thread,
                from,
                to,
            }
        };
        assert_eq!(
            ledger.take_changes(),
            [change(0, State::Quiet, State::Slowed)]
        );
        assert_eq!(ledger.take_changes(), []);
        ledger.wait_until(10_000_000_000);
        let quiet = change(10_000_000_000, State::Slowed, State::Quiet);
        assert_eq!(ledger.take_changes(), [quiet]);
    }

    #[test]
    fn who_was_silent_for_longest_makes_room_and_nothing_is_uncounted() {
        let mut ledger = Ledger::new(Patience::default());
        let most = u32::try_from(MOST_WATCHED).unwrap();
        for tid in 0..most + 10 {
            ledger.see(&step(tid.into(), 0, tid, PAST));
        }
        assert_eq!(ledger.threads().count(), MOST_WATCHED);
        assert!(ledger.thread(Key { pid: 9, tid: 9 }).is_none());
        assert!(ledger.thread(Key { pid: 10, tid: 10 }).is_some());
        assert_eq!(ledger.forgotten().threads, 10);
        assert_eq!(ledger.take_closed().len(), 10);
        assert_eq!(ledger.totals().windows, u64::from(most) + 10);
    }
}
