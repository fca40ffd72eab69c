//! What has become of many threads at once.

use serde::Serialize;

use super::{Owner, Process, ProgramTimers, Thread};
use crate::Root;

/// Of all threads of a log no more are looked for.
pub(crate) const MOST_LOOKUPS: usize = 2048;

/// The processes of some threads, and how many threads lead to none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Owners {
    /// Processes that are there.
    pub processes: Vec<OwnerProcess>,
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
pub struct OwnerProcess {
    /// The process.
    pub process: Process,
    /// Ids of those of its threads that were asked for.
    pub threads: Vec<u32>,
    /// What can interrupt the sleep of one of these threads.
    #[serde(flatten)]
    pub timers: ProgramTimers,
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
        for owner in &mut owners.processes {
            owner.timers = ProgramTimers::of(root, owner.process.pid, &owner.threads);
        }
        owners
    }

    fn add(&mut self, owner: Owner, tid: u32) {
        match owner {
            Owner::Lives { process, .. } => self.add_process(*process, tid),
            Owner::Gone => self.gone += 1,
            Owner::Reused => self.reused += 1,
            Owner::EarlierBoot => self.earlier_boot += 1,
            Owner::Unreadable { why, .. } => {
                self.not_seen += 1;
                self.why_not_seen.get_or_insert(why);
            }
        }
    }

    fn add_process(&mut self, process: Process, tid: u32) {
        let mut known = self.processes.iter_mut();
        match known.find(|owner| owner.process.pid == process.pid) {
            Some(owner) => owner.threads.push(tid),
            None => self.processes.push(OwnerProcess {
                process,
                threads: vec![tid],
                timers: ProgramTimers::default(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::Traps;
    use crate::facts::fixture;
    use split_lock_log::Records;

    fn owners(timers: &str, lookups: &mut usize) -> Owners {
        let log = "x86/split lock detection: #AC: game/8 took a split_lock trap at address: 0x10\n\
                   x86/split lock detection: #AC: game/9 took a split_lock trap at address: 0x10\n\
                   x86/split lock detection: #AC: game/10 took a split_lock trap at address: 0x10\n";
        let stat = |tid| format!("{tid} (game) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 100 0 0\n");
        let folder = fixture::folder(&[
            ("proc/1/comm", "init\n"),
            ("proc/7/status", "Name:\tgame\nTgid:\t7\nPid:\t7\n"),
            ("proc/7/stat", &stat(7)),
            ("proc/7/comm", "game\n"),
            ("proc/7/cmdline", "game\0"),
            ("proc/7/timers", timers),
            ("proc/8/status", "Name:\tgame\nTgid:\t7\nPid:\t8\n"),
            ("proc/8/stat", &stat(8)),
            ("proc/9/status", "Name:\tgame\nTgid:\t7\nPid:\t9\n"),
            ("proc/9/stat", &stat(9)),
        ]);
        let mut traps = Traps::default();
        for record in Records::new(log.as_bytes()) {
            traps.see(&record.unwrap());
        }
        let groups = traps.summary().groups;
        Owners::of(
            &Root::open(folder.path()).unwrap(),
            &groups[0].threads,
            lookups,
        )
    }

    #[test]
    fn threads_lead_to_their_process_once() {
        let found = owners("", &mut 10);
        assert_eq!(found.processes.len(), 1, "{found:?}");
        assert_eq!(found.processes[0].threads, [8, 9]);
        assert_eq!((found.gone, found.not_looked_for), (1, 0));
        let mut few = 1;
        let found = owners("", &mut few);
        assert_eq!(
            (found.processes[0].threads.len(), found.not_looked_for, few),
            (1, 2, 0)
        );
    }

    #[test]
    fn timers_that_can_interrupt_them_are_told() {
        let timers = "ID: 0\nsignal: 14/0000000000000000\nnotify: signal/tid.9\nClockID: 1\n";
        let found = owners(timers, &mut 10);
        assert_eq!(found.processes[0].timers.timers.len(), 1);
    }
}
