//! One watch: events of the kernel go into the thread table, and snapshots come out.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use split_lock_host::Root;

use crate::event::Event;
use crate::identity::IdentityCache;
use crate::livelock::{LivelockThreshold, ThreadState};
use crate::snapshot::{Cost, ProcessRow, Snapshot, ThreadRow};
use crate::source::{Watch, WatchError};
use crate::thread_stats::{ThreadStats, Totals};
use crate::thread_table::{StateChange, ThreadId, ThreadTable};

/// Of threads that have ended the last so many have rows,
const MOST_ENDED: usize = 1000;
/// for so long, but for the end, when all of them are told once more.
const ENDED_FOR: Duration = Duration::from_secs(60);

/// A thread that is in another state than before, and all about it.
#[derive(Debug, Clone)]
pub struct StateReport {
    /// What has changed.
    pub change: StateChange,
    /// The thread as it was then.
    pub thread: ThreadRow,
}

/// What a snapshot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotKind {
    /// One of many: threads that ended long ago are left out.
    Interval,
    /// The last one.
    End,
}

/// A watch with its thread table, and the names of the threads in it.
///
/// ```no_run
/// use std::time::Duration;
/// use split_lock_host::{Facts, Root};
/// use split_lock_watch::{LivelockThreshold, Session, Settings, SnapshotKind, Watch};
///
/// let threshold = LivelockThreshold::of(&Facts::live()?);
/// let watch = Watch::open(&Settings::default())?;
/// let mut session = Session::new(watch, threshold, Root::live()?);
/// for report in session.listen(Duration::from_secs(1))? {
///     println!("{}: {:?}", report.thread.identity.name(), report.change.to);
/// }
/// let (snapshot, _) = session.snapshot(SnapshotKind::End)?;
/// println!("{} traps", snapshot.totals.traps);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Session {
    watch: Watch,
    table: ThreadTable,
    identities: IdentityCache,
    /// Threads that are no more, and since when that is known. There may be more to hear of them.
    ending: HashMap<ThreadId, u64>,
    /// With the time at which it was noticed, the newest last.
    ended: VecDeque<(u64, ThreadRow)>,
    began_ns: u64,
    /// What was paid before anything was watched.
    began_cpu: Duration,
    /// When the last snapshot was made, and what the totals were then.
    last_ns: u64,
    last_totals: HashMap<ThreadId, Totals>,
}

impl Session {
    /// Begins with what the kernel tells from now on; the names of threads are read below the root.
    #[must_use]
    pub fn new(watch: Watch, threshold: LivelockThreshold, root: Root) -> Self {
        let now = Watch::now_ns();
        Self {
            watch,
            table: ThreadTable::new(threshold),
            identities: IdentityCache::new(root),
            ending: HashMap::new(),
            ended: VecDeque::new(),
            began_ns: now,
            began_cpu: cpu_time(),
            last_ns: now,
            last_totals: HashMap::new(),
        }
    }

    /// Since it began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(Watch::now_ns() - self.began_ns)
    }

    /// Waits no longer than this, and takes in what has happened; returns which threads have changed their state.
    ///
    /// # Errors
    /// If the kernel does not let us wait.
    pub fn listen(&mut self, timeout: Duration) -> Result<Vec<StateReport>, WatchError> {
        self.watch.wait(timeout)?;
        let events = self.watch.collect();
        let reports = self.record(&events);
        for thread in self.table.threads_to_follow() {
            self.watch.follow_thread(thread);
        }
        Ok(reports)
    }

    /// Threads that are alive and will not get past their instruction.
    pub(crate) fn livelocked(&mut self) -> BTreeSet<ThreadId> {
        let is_victim = |(thread, stats): (ThreadId, &ThreadStats)| {
            let is_livelocked = stats.state() == ThreadState::Livelocked;
            (is_livelocked && !self.identities.has_ended(thread)).then_some(thread)
        };
        self.table.threads().filter_map(is_victim).collect()
    }

    /// Threads that have opened a window since this moment, which need not have been taken in yet.
    pub(crate) fn windows_since(&mut self, since_ns: u64) -> impl Iterator<Item = ThreadId> {
        self.watch.windows_since(since_ns)
    }

    /// What happened up to this moment has been taken in.
    pub(crate) fn taken_until_ns(&self) -> u64 {
        self.watch.collected_until_ns()
    }

    /// Ends the watch, and takes in what has happened up to now.
    ///
    /// # Errors
    /// If an event cannot be switched off.
    pub fn finish(&mut self) -> Result<Vec<StateReport>, WatchError> {
        let events = self.watch.finish()?;
        Ok(self.record(&events))
    }

    fn record(&mut self, events: &[Event]) -> Vec<StateReport> {
        let mut reports = vec![];
        for event in events {
            self.table.record(event);
            // The thread is looked at when it changes, not when everything has been read.
            reports.extend(self.reports());
        }
        reports
    }

    fn reports(&mut self) -> Vec<StateReport> {
        let changes = self.table.take_changes().into_iter();
        let report = |change: StateChange| {
            let stats = self.table.thread(change.thread)?;
            let identities = &mut self.identities;
            let identity = identities.identify(change.thread, stats.state()).clone();
            let thread = ThreadRow::new(change.thread, stats, identity);
            Some(StateReport { change, thread })
        };
        changes.filter_map(report).collect()
    }

    /// What has been seen up to now; and which threads have become quiet, or have ended.
    ///
    /// # Errors
    /// If a CPU has come online that cannot be listened to.
    pub fn snapshot(
        &mut self,
        kind: SnapshotKind,
    ) -> Result<(Snapshot, Vec<StateReport>), WatchError> {
        self.watch.follow_cpus()?;
        let now = Watch::now_ns();
        // What happened later is still to be taken in.
        self.table
            .advance_to(now.min(self.watch.collected_until_ns()));
        let mut reports = self.reports();
        self.remove_ended_threads(now);
        reports.extend(self.report_removed_threads(now));
        let mut threads = self.rows(now, kind);
        let processes = ProcessRow::group(&mut threads);
        let wall = Duration::from_nanos(now - self.began_ns);
        let lost = self.watch.lost();
        let ended = threads.iter().filter(|row| row.ended).count() as u64;
        let snapshot = Snapshot {
            at_ns: now,
            wall,
            lost_events: lost.records + lost.probes,
            lost,
            cost: Cost {
                cpu: cpu_time().saturating_sub(self.began_cpu),
                wall,
            },
            cpus_off: self.table.cpus_off(),
            unprotected: self.table.unprotected(),
            totals: self.table.totals(),
            processes,
            threads_forgotten: self.table.removed_totals().threads - ended,
            threads,
            relief: None,
        };
        self.last_ns = now;
        Ok((snapshot, reports))
    }

    /// Once everything has been heard that they did before they ended.
    fn remove_ended_threads(&mut self, now_ns: u64) {
        let threads = self.table.threads().map(|(thread, _)| thread);
        let ended: HashMap<ThreadId, u64> = threads
            .filter(|&thread| self.identities.has_ended(thread))
            .map(|thread| (thread, *self.ending.get(&thread).unwrap_or(&now_ns)))
            .collect();
        let heard_until_ns = self.watch.collected_until_ns();
        self.ending = ended;
        for (thread, _) in self
            .ending
            .extract_if(|_, since_ns| *since_ns <= heard_until_ns)
        {
            self.table.remove(thread);
        }
    }

    /// Of each thread that was removed there is a row; and one that was in trouble is so no more.
    fn report_removed_threads(&mut self, now_ns: u64) -> Vec<StateReport> {
        let mut reports = vec![];
        for (thread, stats) in self.table.take_removed() {
            self.last_totals.remove(&thread);
            self.watch.unfollow_thread(thread);
            // One that ended before it was ever identified has no name; the rest of it is known all the same.
            let identity = self.identities.remove(thread);
            let row = ThreadRow::new(thread, &stats, identity).ended();
            if stats.state() != ThreadState::Quiet {
                let change = StateChange {
                    at_ns: now_ns,
                    thread,
                    from: stats.state(),
                    to: ThreadState::Quiet,
                };
                let thread = row.clone();
                reports.push(StateReport { change, thread });
            }
            self.ended.push_back((now_ns, row));
        }
        let surplus = self.ended.len().saturating_sub(MOST_ENDED);
        self.ended.drain(..surplus);
        reports
    }

    fn rows(&mut self, now_ns: u64, kind: SnapshotKind) -> Vec<ThreadRow> {
        let interval = Duration::from_nanos(now_ns - self.last_ns);
        let oldest_ns = match kind {
            SnapshotKind::End => 0,
            SnapshotKind::Interval => now_ns.saturating_sub(ENDED_FOR.as_nanos() as u64),
        };
        let recent = self.ended.iter().filter(|(at_ns, _)| *at_ns >= oldest_ns);
        let mut rows: Vec<_> = recent.map(|(_, row)| row.clone()).collect();
        for (thread, stats) in self.table.threads() {
            let identity = self.identities.identify(thread, stats.state()).clone();
            let before = self.last_totals.insert(thread, *stats.totals());
            let row = ThreadRow::new(thread, stats, identity);
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
