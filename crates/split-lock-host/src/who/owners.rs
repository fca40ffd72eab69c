//! What has become of many threads at once.

use serde::Serialize;

use super::{Owner, Process, Thread};
use crate::Root;

/// Of all threads of a log no more are looked for.
pub(crate) const MOST_LOOKUPS: usize = 2048;

/// The processes of some threads, and how many threads lead to none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Owners {
    /// Processes that are there.
    pub processes: Vec<Owning>,
    /// Threads that have ended.
    pub gone: usize,
    /// Threads whose ids others have got.
    pub reused: usize,
    /// Threads from before the machine was started the last time.
    pub earlier_boot: usize,
    /// Threads that may be there.
    pub not_seen: usize,
    /// Why the first of these could not be seen.
    pub why_not_seen: Option<String>,
    /// Threads that there was no time to look for.
    pub not_looked_for: usize,
}

/// A process, and some of its threads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Owning {
    /// The process.
    pub process: Process,
    /// Ids of those of its threads that were asked for.
    pub threads: Vec<u32>,
}

impl Owners {
    /// Looks for threads that a log of this machine tells of, but for no more than `lookups`, which is made smaller.
    #[must_use]
    pub fn of(root: &Root, threads: &[Thread], lookups: &mut usize) -> Self {
        let mut owners = Owners::default();
        let count = threads.len().min(*lookups);
        *lookups -= count;
        owners.not_looked_for = threads.len() - count;
        for thread in &threads[..count] {
            owners.add(Owner::of_event(root, thread), thread.tid);
        }
        owners
    }

    fn add(&mut self, owner: Owner, tid: u32) {
        match owner {
            Owner::Lives { process, .. } => self.add_process(*process, tid),
            Owner::Gone => self.gone += 1,
            Owner::Reused { .. } => self.reused += 1,
            Owner::EarlierBoot => self.earlier_boot += 1,
            Owner::CouldNotSee { why, .. } => {
                self.not_seen += 1;
                self.why_not_seen.get_or_insert(why);
            }
        }
    }

    fn add_process(&mut self, process: Process, tid: u32) {
        let mut known = self.processes.iter_mut();
        match known.find(|owning| owning.process.pid == process.pid) {
            Some(owning) => owning.threads.push(tid),
            None => self.processes.push(Owning {
                process,
                threads: vec![tid],
            }),
        }
    }
}
