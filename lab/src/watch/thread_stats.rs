//! What the kernel did to each thread, from its journal.

use std::collections::{BTreeMap, HashMap};

use crate::journal::{Event, Kind};
use crate::replay::{TrapRow, Verdict};

/// One thread's traps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadStats {
    /// They are those of a guest.
    pub guest: bool,
    /// When the first one was.
    pub first_ns: u64,
    /// The instructions that trapped.
    pub addresses: Vec<u64>,
    /// All of them.
    pub traps: u64,
    /// Of them, those whose sleep a signal cut short,
    pub interrupted_asleep: u64,
    /// whose wait for the semaphore it ended,
    pub interrupted_queued: u64,
    /// that it sent back before the sleep,
    pub not_slept: u64,
    /// and those that ended with a window.
    pub windows: u64,
    /// How long the handler had the thread.
    pub lost_ns: u64,
}

/// Of all threads, by their ids. `traps` is the model's account of the same journal.
#[must_use]
pub fn thread_stats(journal: &[Event], traps: &[TrapRow]) -> BTreeMap<i32, ThreadStats> {
    let mut threads: BTreeMap<i32, ThreadStats> = BTreeMap::new();
    let mut since: HashMap<i32, u64> = HashMap::new();
    for event in journal {
        match event.kind {
            Kind::Trap(address) => {
                since.insert(event.pid, event.ns);
                let stats = threads.entry(event.pid).or_insert_with(|| ThreadStats {
                    guest: event.guest,
                    first_ns: event.ns,
                    ..ThreadStats::default()
                });
                if !stats.addresses.contains(&address) {
                    stats.addresses.push(address);
                }
            }
            Kind::Return { .. } => {
                if let Some(since) = since.remove(&event.pid) {
                    threads.entry(event.pid).or_default().lost_ns += event.ns - since;
                }
            }
            _ => {}
        }
    }
    for trap in traps {
        threads.entry(trap.pid).or_default().count(trap.verdict);
    }
    threads
}

impl ThreadStats {
    fn count(&mut self, verdict: Verdict) {
        self.traps += 1;
        *match verdict {
            Verdict::Passed => &mut self.windows,
            Verdict::NoSleep => &mut self.not_slept,
            Verdict::CutShort => &mut self.interrupted_asleep,
            Verdict::LeftQueue => &mut self.interrupted_queued,
            // Of a thread that ends, or catches it.
            Verdict::Sigbus => return,
        } += 1;
    }
}
