//! The traps of a log, grouped by program and instruction, in bounded memory.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::{Fingerprint, Program, Space, text};
use split_lock_log::{Exception, Message, Record, Stamp, Trap, TrapKind};

/// More groups than this are not told apart; the least frequent ones are then counted together.
pub const MOST_GROUPS: usize = 512;

/// Of each group no more threads are remembered.
pub const MOST_THREADS: usize = 64;

/// Of each group no more addresses are remembered.
pub const MOST_ADDRESSES: usize = 16;

/// Counts traps as they are read.
///
/// A log may hold any number of names and addresses. So when there are too many groups the half that has
/// fewer traps becomes [`Summary::in_other_groups`]: what is frequent stays.
///
/// ```
/// use split_lock_log::Records;
/// use split_lock_host::attribution::Traps;
///
/// let log = "[ 99.1] x86/split lock detection: #AC: CPU 0/KVM/41 took a split_lock trap at address: 0x5123\n\
///            [ 99.2] x86/split lock detection: #AC: CPU 1/KVM/42 took a split_lock trap at address: 0x9123\n";
/// let mut traps = Traps::default();
/// for record in Records::new(log.as_bytes()) {
///     traps.see(&record?);
/// }
/// let summary = traps.summary();
/// assert_eq!(summary.groups.len(), 1);
/// assert_eq!((summary.groups[0].traps, summary.groups[0].threads.len()), (2, 2));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Traps {
    groups: HashMap<Key, Group>,
    in_other_groups: u64,
    suppressed: Suppressed,
    /// Starts of a kernel so far.
    starts: u32,
    /// Groups so far, those that are no longer there among them.
    groups_seen: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    program: Program,
    kind: TrapKind,
    fingerprint: Fingerprint,
}

/// What a log says about who has split locks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Those with most traps first, and of these the ones that came first.
    pub groups: Vec<Group>,
    /// Traps in groups that there was no room for.
    pub in_other_groups: u64,
    /// Traps that the kernel has counted, but not printed.
    pub suppressed: Suppressed,
}

/// Messages that the kernel has left out. It does not say whose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Suppressed {
    /// Of #AC.
    pub split_locks: u64,
    /// Of #DB.
    pub bus_locks: u64,
}

/// Traps of one instruction of one program, as far as a log tells.
///
/// Since 5.19 the kernel prints one line for each thread that splits locks, so a group's traps are no measure
/// of how often the instruction was executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Whose threads they are.
    pub program: Program,
    /// How the kernel calls them.
    #[serde(serialize_with = "kind")]
    pub kind: TrapKind,
    /// What their addresses have in common.
    pub fingerprint: Fingerprint,
    /// Whose memory the addresses are in.
    pub space: Space,
    /// How many were printed.
    pub traps: u64,
    /// The first [`MOST_THREADS`] threads.
    pub threads: Vec<Thread>,
    /// Traps of more threads than that.
    pub traps_of_other_threads: u64,
    /// The first [`MOST_ADDRESSES`] addresses. For #DB they are those of the instruction after it.
    pub addresses: Vec<Address>,
    /// Traps at more addresses than that.
    pub traps_at_other_addresses: u64,
    /// When the first one was written.
    pub first: When,
    /// When the last one was written.
    pub last: When,
    #[serde(skip)]
    order: u64,
}

/// A thread of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Thread {
    /// Its id, in the initial PID namespace.
    pub tid: u32,
    /// Its name.
    #[serde(serialize_with = "text::lossy")]
    pub comm: Vec<u8>,
    /// How many of its traps were printed.
    pub traps: u64,
    /// When its last one was, since the machine was started.
    #[serde(rename = "uptime_s", serialize_with = "text::seconds")]
    pub uptime: Option<Duration>,
    /// The log tells of a later start of the machine, so the thread is gone.
    pub before_last_start: bool,
    #[serde(skip)]
    starts: u32,
}

/// An address of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Address {
    /// As the kernel has printed it.
    #[serde(serialize_with = "text::hexadecimal")]
    pub address: u64,
    /// How many traps at it were printed.
    pub traps: u64,
}

/// The time of a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct When {
    /// As it is written there; empty if it is not.
    #[serde(serialize_with = "text::lossy")]
    pub text: Vec<u8>,
    /// Since the machine was started, if that is known.
    #[serde(rename = "uptime_s", serialize_with = "text::seconds")]
    pub uptime: Option<Duration>,
}

impl Traps {
    /// Counts a record, whatever it says.
    pub fn see(&mut self, record: &Record) {
        match &record.message {
            Message::Trap(trap) => self.add(trap, &record.stamp),
            Message::Suppressed(suppressed) => {
                let count = match suppressed.exception {
                    Exception::AlignmentCheck => &mut self.suppressed.split_locks,
                    Exception::Debug => &mut self.suppressed.bus_locks,
                };
                *count = count.saturating_add(suppressed.count);
            }
            // Thread ids begin anew.
            Message::Started { .. } => self.starts = self.starts.saturating_add(1),
            _ => {}
        }
    }

    fn add(&mut self, trap: &Trap, stamp: &Stamp) {
        let key = Key {
            program: Program::of(&trap.comm),
            kind: trap.kind,
            fingerprint: Fingerprint::of(trap.address),
        };
        if self.groups.len() >= MOST_GROUPS && !self.groups.contains_key(&key) {
            self.make_room();
        }
        let group = self.groups.entry(key).or_insert_with_key(|key| {
            self.groups_seen += 1;
            Group::new(key, trap, stamp, self.groups_seen)
        });
        group.add(trap, stamp, self.starts);
    }

    /// The half that has fewer traps is given up; of two alike, the one that came later.
    fn make_room(&mut self) {
        let mut ranks: Vec<_> = self.groups.values().map(Group::rank).collect();
        ranks.sort_unstable();
        let first_to_go = ranks[MOST_GROUPS / 2];
        self.groups.retain(|_, group| {
            let stays = group.rank() < first_to_go;
            if !stays {
                self.in_other_groups += group.traps;
            }
            stays
        });
    }

    /// What there was so far.
    #[must_use]
    pub fn summary(self) -> Summary {
        let starts = self.starts;
        let mut groups: Vec<_> = self.groups.into_values().collect();
        groups.sort_unstable_by_key(Group::rank);
        for thread in groups.iter_mut().flat_map(|group| &mut group.threads) {
            thread.before_last_start = thread.starts < starts;
        }
        Summary {
            groups,
            in_other_groups: self.in_other_groups,
            suppressed: self.suppressed,
        }
    }
}

impl Group {
    fn new(key: &Key, trap: &Trap, stamp: &Stamp, order: u64) -> Self {
        let when = When {
            text: stamp.text.clone(),
            uptime: stamp.uptime,
        };
        Group {
            program: key.program.clone(),
            kind: key.kind,
            fingerprint: key.fingerprint,
            space: key.program.space_of(trap.address),
            traps: 0,
            threads: vec![],
            traps_of_other_threads: 0,
            addresses: vec![],
            traps_at_other_addresses: 0,
            first: when.clone(),
            last: when,
            order,
        }
    }

    /// The smaller, the more there is of it.
    fn rank(&self) -> (std::cmp::Reverse<u64>, u64) {
        (std::cmp::Reverse(self.traps), self.order)
    }

    fn add(&mut self, trap: &Trap, stamp: &Stamp, starts: u32) {
        self.traps += 1;
        self.last.text.clone_from(&stamp.text);
        self.last.uptime = stamp.uptime;
        // One program's addresses may be of both kinds, and then nothing is certain.
        if self.program.space_of(trap.address) != self.space {
            self.space = Space::Either;
        }
        self.add_thread(trap, stamp, starts);
        self.add_address(trap.address);
    }

    fn add_thread(&mut self, trap: &Trap, stamp: &Stamp, starts: u32) {
        let is_it = |thread: &&mut Thread| thread.tid == trap.tid && thread.starts == starts;
        // A thread that has another name by now is another one, or will be taken for it.
        let known = self.threads.iter_mut().find(is_it);
        if let Some(thread) = known.filter(|thread| thread.comm == trap.comm) {
            thread.traps += 1;
            thread.uptime = stamp.uptime.or(thread.uptime);
        } else if self.threads.len() < MOST_THREADS {
            self.threads.push(Thread {
                tid: trap.tid,
                comm: trap.comm.clone(),
                traps: 1,
                uptime: stamp.uptime,
                before_last_start: false,
                starts,
            });
        } else {
            self.traps_of_other_threads += 1;
        }
    }

    fn add_address(&mut self, address: u64) {
        let mut known = self.addresses.iter_mut();
        if let Some(known) = known.find(|known| known.address == address) {
            known.traps += 1;
        } else if self.addresses.len() < MOST_ADDRESSES {
            self.addresses.push(Address { address, traps: 1 });
        } else {
            self.traps_at_other_addresses += 1;
        }
    }

    /// Whether the addresses are those of the instructions after the ones that locked.
    #[must_use]
    pub fn is_after(&self) -> bool {
        self.kind.exception() == Exception::Debug
    }
}

fn kind<S: Serializer>(kind: &TrapKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

#[cfg(test)]
mod tests;
