//! One watch: what the kernel tells goes into the ledger, and snapshots come out.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};
use split_lock_host::Root;
use split_lock_watch::{Change, Happening, Key, Ledger, Patience, State, Totals, Watch};

use super::people::People;
use super::snapshot::{Cost, Row, Snapshot, group};

/// Of threads that have ended the last so many have rows,
const MOST_ENDED: usize = 1000;
/// for so long, but for the end, when all of them are told once more.
const ENDED_FOR: Duration = Duration::from_secs(60);

/// A thread that fares otherwise than before, and all about it.
pub(super) type Told = (Change, Row);

/// What a snapshot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Interval,
    End,
}

pub(super) struct Session {
    watch: Watch,
    ledger: Ledger,
    people: People,
    /// Threads that are no more, and since when that is known. There may be more to hear of them.
    ending: HashMap<Key, u64>,
    /// With the time at which it was noticed, the newest last.
    ended: VecDeque<(u64, Row)>,
    began_ns: u64,
    /// What was paid before anything was watched.
    began_cpu: Duration,
    last_ns: u64,
    /// When the last snapshot was made.
    before: HashMap<Key, Totals>,
}

impl Session {
    pub(super) fn new(watch: Watch, patience: Patience, root: Root) -> Self {
        let now = Watch::now_ns();
        Self {
            watch,
            ledger: Ledger::new(patience),
            people: People::new(root),
            ending: HashMap::new(),
            ended: VecDeque::new(),
            began_ns: now,
            began_cpu: cpu_time(),
            last_ns: now,
            before: HashMap::new(),
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        Duration::from_nanos(Watch::now_ns() - self.began_ns)
    }

    /// Waits no longer than this, and takes in what has happened; returns which threads fare otherwise than before.
    pub(super) fn listen(&mut self, timeout: Duration) -> Result<Vec<Told>> {
        self.watch.wait(timeout)?;
        let happenings = self.watch.collect();
        Ok(self.take_in(&happenings))
    }

    /// The last that there is to hear.
    pub(super) fn finish(&mut self) -> Result<Vec<Told>> {
        let happenings = self.watch.finish()?;
        Ok(self.take_in(&happenings))
    }

    fn take_in(&mut self, happenings: &[Happening]) -> Vec<Told> {
        let mut told = vec![];
        for happening in happenings {
            self.ledger.see(happening);
            // The account is looked at when it changes, not when everything has been read.
            for change in self.ledger.take_changes() {
                told.extend(self.described(change));
            }
        }
        told
    }

    fn described(&mut self, change: Change) -> Option<Told> {
        let person = self.people.meet(change.thread).clone();
        let account = self.ledger.thread(change.thread)?;
        Some((change, Row::new(change.thread, account, person)))
    }

    /// What has been seen up to now; and who has become quiet, or has ended.
    pub(super) fn snapshot(&mut self, moment: Moment) -> Result<(Snapshot, Vec<Told>)> {
        self.watch.follow_cpus()?;
        let now = Watch::now_ns();
        // What happened later is still to be taken in.
        self.ledger.wait_until(now.min(self.watch.heard_until_ns()));
        let quiet = self.ledger.take_changes();
        let mut told: Vec<Told> = quiet
            .into_iter()
            .filter_map(|change| self.described(change))
            .collect();
        self.bury(now);
        told.extend(self.closed(now));
        let mut rows = self.rows(now, moment);
        let processes = group(&mut rows);
        let wall = Duration::from_nanos(now - self.began_ns);
        let lost = self.watch.lost();
        let ended = rows.iter().filter(|row| row.ended).count() as u64;
        let snapshot = Snapshot {
            at_ns: now,
            wall,
            lost_events: lost.records + lost.probes,
            lost,
            cost: Cost {
                cpu: cpu_time().saturating_sub(self.began_cpu),
                wall,
            },
            cpus_off: self.ledger.cpus_off(),
            unprotected: self.ledger.unprotected(),
            totals: self.ledger.totals(),
            processes,
            threads_forgotten: self.ledger.forgotten().threads - ended,
            threads: rows,
        };
        self.last_ns = now;
        Ok((snapshot, told))
    }

    /// Closes the accounts of threads that have ended, once everything has been heard that they did before that.
    fn bury(&mut self, now_ns: u64) {
        let threads = self.ledger.threads().map(|(thread, _)| thread);
        let ended: HashMap<Key, u64> = threads
            .filter(|&thread| self.people.has_ended(thread))
            .map(|thread| (thread, *self.ending.get(&thread).unwrap_or(&now_ns)))
            .collect();
        let heard_until_ns = self.watch.heard_until_ns();
        let (heard, ending) = ended
            .into_iter()
            .partition::<HashMap<_, _>, _>(|&(_, since_ns)| since_ns <= heard_until_ns);
        self.ending = ending;
        for thread in heard.into_keys() {
            self.ledger.close(thread);
        }
    }

    /// Of each account that was closed there is a row; and who was in trouble is so no more.
    fn closed(&mut self, now_ns: u64) -> Vec<Told> {
        let mut told = vec![];
        for (thread, account) in self.ledger.take_closed() {
            self.before.remove(&thread);
            // Who was never met before it ended has no name; the rest of it is known all the same.
            let person = self.people.forget(thread);
            let row = Row::new(thread, &account, person).ended();
            if account.state() != State::Quiet {
                let change = Change {
                    at_ns: now_ns,
                    thread,
                    from: account.state(),
                    to: State::Quiet,
                };
                told.push((change, row.clone()));
            }
            self.ended.push_back((now_ns, row));
        }
        let surplus = self.ended.len().saturating_sub(MOST_ENDED);
        self.ended.drain(..surplus);
        told
    }

    fn rows(&mut self, now_ns: u64, moment: Moment) -> Vec<Row> {
        let interval = Duration::from_nanos(now_ns - self.last_ns);
        let oldest_ns = match moment {
            Moment::End => 0,
            Moment::Interval => now_ns.saturating_sub(ENDED_FOR.as_nanos() as u64),
        };
        let recent = self.ended.iter().filter(|(at_ns, _)| *at_ns >= oldest_ns);
        let mut rows: Vec<Row> = recent.map(|(_, row)| row.clone()).collect();
        for (thread, account) in self.ledger.threads() {
            let person = self.people.meet(thread).clone();
            let before = self.before.insert(thread, *account.totals());
            let row = Row::new(thread, account, person);
            rows.push(row.since(&before.unwrap_or_default(), interval));
        }
        rows
    }
}

/// Of this process, all threads together.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
