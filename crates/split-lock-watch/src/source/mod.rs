//! What this machine's kernel tells, by way of perf.

mod cpu;
mod error;
mod format;
mod merge;
mod perf_event;
mod probes;
pub(crate) mod record;
mod setup;
mod symbols;
mod thread;
mod tracefs;

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::event::Event;
use crate::thread_table::ThreadId;
use cpu::CpuEvents;
use merge::EventQueue;
use setup::Sources;
use thread::ThreadSwitches;
use tracefs::SystemPaths;

pub use error::WatchError;
pub use setup::{MissingSource, Probing, Settings};

/// Events that the kernel told of and that could not be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LostEvents {
    /// Records that found a ring full.
    pub records: u64,
    /// Functions that were passed while too many threads were in them for the probes.
    pub probes: u64,
}

/// The kernel's events about split locks, on all CPUs that are online when it is opened.
///
/// Needs root, or else CAP_PERFMON and a tracefs that may be read; probes need one that may be written.
///
/// ```no_run
/// use std::time::Duration;
/// use split_lock_watch::{LivelockThreshold, Settings, ThreadTable, Watch};
///
/// let mut watch = Watch::open(&Settings::default())?;
/// let mut table = ThreadTable::new(LivelockThreshold::default());
/// watch.wait(Duration::from_secs(1))?;
/// for event in watch.collect() {
///     table.record(&event);
/// }
/// for (thread, stats) in table.threads() {
///     println!("{}: {:?}", thread.tid, stats.state());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Watch {
    cpus: Vec<CpuEvents>,
    threads: Vec<ThreadSwitches>,
    // Behind the CPUs' events: a probe that is in use cannot be removed.
    sources: Sources,
    buffer_bytes: usize,
    paths: SystemPaths,
    queue: EventQueue,
}

/// Each takes a file and a small ring.
const MOST_FOLLOWED: usize = 256;

/// A record that is being written while others are read is this late at most, with orders of magnitude to
/// spare. The kernel writes them without interruption.
const SETTLE_NS: u64 = 5_000_000;

impl Watch {
    /// Asks the kernel to tell. When this returns, everything that happens is seen.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub fn open(settings: &Settings) -> Result<Self, WatchError> {
        let paths = SystemPaths::default();
        setup::refuse_containers()?;
        let mut watch = Self {
            cpus: vec![],
            threads: vec![],
            sources: Sources::find(settings, &paths)?,
            buffer_bytes: settings.buffer_bytes,
            paths,
            queue: EventQueue::default(),
        };
        watch.follow_cpus()?;
        if !watch.is_complete() {
            // Windows are listened to meanwhile. Nothing is read from the rings before it is known what it means.
            watch.sources.add_sleeps(&watch.paths)?;
            watch.listen_to_sleeps()?;
        }
        Ok(watch)
    }

    /// How many ticks the kernel has in a second; until this is known it is taken for the least that it may be.
    pub fn set_tick_rate(&mut self, hz: u32) {
        self.sources.tick_ns = 1_000_000_000 / u64::from(hz.max(1));
    }

    /// The last event comes to those that are listened to.
    fn listen_to_sleeps(&mut self) -> Result<(), WatchError> {
        let events = &self.sources.events;
        let (online, known) = (self.cpus.len(), events.len() - 1);
        for cpu in &mut self.cpus {
            // One that has gone has nothing to tell any more.
            cpu.add(&events[known..], self.buffer_bytes, online)?;
        }
        cpu::enable(&self.cpus, events, known)
    }

    /// Listens to CPUs that have come online since, and no more to those that have gone. To be called now and then: a CPU
    /// that comes back loses events until then.
    ///
    /// # Errors
    /// If that cannot be done.
    pub fn follow_cpus(&mut self) -> Result<(), WatchError> {
        let online = cpu::online(&self.paths)?;
        let known = self.cpus.iter().map(|cpu| cpu.number);
        if known.eq(online.iter().copied()) {
            return Ok(());
        }
        // What they have written before they went.
        self.drain();
        self.cpus.retain(|cpu| online.contains(&cpu.number));
        let (events, bytes) = (&self.sources.events, self.buffer_bytes);
        let mut new = vec![];
        for &number in &online {
            if self.cpus.iter().all(|cpu| cpu.number != number) {
                new.extend(CpuEvents::open(events, number, bytes, online.len())?);
            }
        }
        cpu::enable(&new, events, 0)?;
        self.cpus.append(&mut new);
        self.cpus.sort_by_key(|cpu| cpu.number);
        Ok(())
    }

    /// Tells from now on when a thread leaves its CPU and when it comes back, which is cheap for one thread, and not for
    /// all. For 256 threads at most; and not where the kernel refuses, or the thread has gone.
    pub fn follow_thread(&mut self, thread: ThreadId) {
        let mut threads = self.threads.iter();
        let is_followed = threads.any(|switches| switches.thread == thread);
        if is_followed || self.threads.len() >= MOST_FOLLOWED {
            return;
        }
        if let Ok(opened) = ThreadSwitches::open(thread) {
            self.queue.begin_switches(thread, Self::now_ns());
            self.threads.push(opened);
        }
    }

    /// No more of a thread's switches.
    pub fn unfollow_thread(&mut self, thread: ThreadId) {
        self.threads.retain(|switches| switches.thread != thread);
    }

    /// The events that tell.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.sources.events.iter().map(|event| &event.name[..])
    }

    /// What would have told more.
    #[must_use]
    pub fn missing(&self) -> &[MissingSource] {
        self.sources.missing.as_slice()
    }

    /// Whether every trap is seen, and from where each is sent back.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.sources.probes.is_some()
    }

    /// How many events were lost so far.
    #[must_use]
    pub fn lost(&self) -> LostEvents {
        LostEvents {
            records: self.queue.lost_records,
            probes: self.sources.missed_by_probes(),
        }
    }

    /// The time now, on the clock of [`Event::at_ns`].
    #[must_use]
    pub fn now_ns() -> u64 {
        let now = clock_gettime(ClockId::Monotonic);
        now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
    }

    /// Waits until so much has happened that it ought to be collected, but no longer than this, and no longer than
    /// until a signal comes.
    ///
    /// # Errors
    /// If the kernel does not let us wait.
    pub fn wait(&self, timeout: Duration) -> Result<(), WatchError> {
        let first_events = self.cpus.iter().filter_map(|cpu| cpu.events.first());
        let mut files: Vec<_> = first_events
            .map(|event| PollFd::new(event, PollFlags::IN))
            .collect();
        let timeout = Timespec::try_from(timeout).ok();
        match poll(&mut files, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(WatchError::of("wait for perf events", error.into())),
        }
    }

    /// What has happened since this was last asked, in the order of time; but for the last few milliseconds, because of
    /// which not everything may have been written yet.
    pub fn collect(&mut self) -> Vec<Event> {
        let until = Self::now_ns().saturating_sub(SETTLE_NS);
        self.drain();
        self.queue.take_until(until)
    }

    /// Threads that are seen to have opened a window since this moment. Nothing is collected by that: it is for whoever
    /// cannot wait until the order of the events is certain.
    pub(crate) fn windows_since(&mut self, since_ns: u64) -> impl Iterator<Item = ThreadId> {
        self.drain();
        self.queue.windows_since(since_ns)
    }

    /// Whatever happened up to this moment has been collected, on the clock of [`Event::at_ns`].
    #[must_use]
    pub fn collected_until_ns(&self) -> u64 {
        self.queue.taken_until_ns
    }

    /// Ends the watch: what has happened up to now.
    ///
    /// # Errors
    /// If an event cannot be switched off.
    pub fn finish(&mut self) -> Result<Vec<Event>, WatchError> {
        for event in self.cpus.iter().flat_map(|cpu| &cpu.events) {
            let disabled = event.disable();
            disabled.map_err(|error| WatchError::of("switch perf events off", error))?;
        }
        self.drain();
        Ok(self.queue.take_until(u64::MAX))
    }

    fn drain(&mut self) {
        for cpu in &mut self.cpus {
            self.queue.drain(cpu, &self.sources);
        }
        let now_ns = Self::now_ns();
        for thread in &mut self.threads {
            self.queue.drain_switches(thread, now_ns);
        }
    }
}
