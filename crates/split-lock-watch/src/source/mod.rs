//! What this machine's kernel tells, by way of perf.

mod error;
mod event;
mod format;
mod probes;
pub(crate) mod record;
mod symbols;
mod tracefs;

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use perf_event_open_sys::bindings::{
    PERF_SAMPLE_CALLCHAIN, PERF_SAMPLE_CPU, PERF_SAMPLE_IDENTIFIER, PERF_SAMPLE_RAW,
    PERF_SAMPLE_TID, PERF_SAMPLE_TIME, PERF_TYPE_TRACEPOINT, perf_event_attr,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::happening::Happening;
use crate::sys::{PerfEvent, Ring};
use split_lock_host::who::INITIAL_NAMESPACE;

pub use error::WatchError;
use event::Event;
use probes::Probes;
use record::{Record, records};
use symbols::Symbols;
use tracefs::{Places, Tracefs};

/// How to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Whether to define kernel probes.
    pub probing: Probing,
    /// The kernel's ticks in a second, if known.
    pub hz: Option<u32>,
    /// Bytes of the ring of each CPU; rounded up to a power of two.
    pub buffer_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            probing: Probing::WherePossible,
            hz: None,
            buffer_bytes: 256 << 10,
        }
    }
}

/// Whether to define kernel probes: they see everything, and change what the kernel executes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probing {
    /// If the kernel lets us.
    WherePossible,
    /// Tracepoints only.
    Never,
}

/// Something that would have told more, and is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// What it is.
    pub what: String,
    /// Why it is not there.
    pub why: String,
    /// What is not seen for that.
    pub so: &'static str,
}

/// What the kernel told and nobody heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
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
/// use split_lock_watch::{Ledger, Patience, Settings, Watch};
///
/// let mut watch = Watch::open(&Settings::default())?;
/// let mut ledger = Ledger::new(Patience::default());
/// watch.wait(Duration::from_secs(1))?;
/// for happening in watch.collect() {
///     ledger.see(&happening);
/// }
/// for (thread, account) in ledger.threads() {
///     println!("{}: {:?}", thread.tid, account.state());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Watch {
    cpus: Vec<OnCpu>,
    events: Vec<Event>,
    // Behind the events: a probe that is in use cannot be removed.
    probes: Option<Probes>,
    symbols: Symbols,
    tick_ns: u64,
    buffer_bytes: usize,
    places: Places,
    missing: Vec<Missing>,
    lost_records: u64,
    /// Seen, and perhaps not yet in order.
    waiting: Vec<Happening>,
    heard_until_ns: u64,
    buffer: Vec<u8>,
}

/// The events of one CPU, all of which write to the first one's ring.
#[derive(Debug)]
struct OnCpu {
    number: u32,
    ring: Ring,
    events: Vec<PerfEvent>,
    /// What the kernel calls each of them in its records.
    ids: Vec<u64>,
}

/// A record that is being written while others are read is this late at most, with orders of magnitude to
/// spare. The kernel writes them without interruption.
const SETTLE_NS: u64 = 5_000_000;

const DEEPEST_CALL_CHAIN: u16 = 32;

/// If nothing is known of the kernel's: the longest.
const LONGEST_TICK_NS: u64 = 10_000_000;

static OPENED: AtomicU64 = AtomicU64::new(0);

impl Watch {
    /// Asks the kernel to tell. When this returns, everything that happens is seen.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub fn open(settings: &Settings) -> Result<Self, WatchError> {
        Self::open_in(settings, &Places::default())
    }

    fn open_in(settings: &Settings, places: &Places) -> Result<Self, WatchError> {
        refuse_containers()?;
        let tracefs = Tracefs::find(places)?;
        let symbols = symbols(places)?;
        if !symbols.has_handlers() {
            return Err(WatchError::NoHandler);
        }
        let mut missing = vec![];
        let probes = probes(settings.probing, &tracefs, &symbols, &mut missing);
        let events = events(&tracefs, &symbols, probes.as_ref())?;
        let tick_ns = |hz: u32| 1_000_000_000 / u64::from(hz.max(1));
        let mut watch = Self {
            cpus: vec![],
            events,
            probes,
            symbols,
            tick_ns: settings.hz.map_or(LONGEST_TICK_NS, tick_ns),
            buffer_bytes: settings.buffer_bytes,
            places: places.clone(),
            missing,
            lost_records: 0,
            waiting: vec![],
            heard_until_ns: 0,
            buffer: vec![],
        };
        watch.follow_cpus()?;
        Ok(watch)
    }

    /// Listens to CPUs that have come online since, and no more to those that have gone. To be called now and then: a CPU
    /// that comes back is deaf until then.
    ///
    /// # Errors
    /// If that cannot be done.
    pub fn follow_cpus(&mut self) -> Result<(), WatchError> {
        let online = cpus(&self.places)?;
        if self
            .cpus
            .iter()
            .map(|cpu| cpu.number)
            .eq(online.iter().copied())
        {
            return Ok(());
        }
        // What they have written before they went.
        self.drain();
        self.cpus.retain(|cpu| online.contains(&cpu.number));
        for &number in &online {
            if self.cpus.iter().all(|cpu| cpu.number != number) {
                let opened = self.open_cpu(number, online.len())?;
                self.cpus.extend(opened);
            }
        }
        self.cpus.sort_by_key(|cpu| cpu.number);
        Ok(())
    }

    /// `None` if the CPU has just gone.
    fn open_cpu(&self, number: u32, cpus: usize) -> Result<Option<OnCpu>, WatchError> {
        let (mut events, mut ids) = (vec![], vec![]);
        for event in &self.events {
            let failed = |error: io::Error| match error.raw_os_error() {
                Some(libc::EMFILE) => WatchError::TooManyFiles {
                    cpus,
                    needed: (cpus + 8) * (self.events.len() + 1),
                },
                _ => WatchError::of(
                    format!("open the perf event {} on CPU {number}", event.name),
                    error,
                ),
            };
            let opened = match PerfEvent::open(&attributes(event, self.buffer_bytes), number) {
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
                opened => opened.map_err(failed)?,
            };
            if let Some(filter) = &event.filter {
                opened.set_filter(filter).map_err(failed)?;
            }
            ids.push(opened.id().map_err(failed)?);
            events.push(opened);
        }
        let Some((first, others)) = events.split_first() else {
            return Ok(None);
        };
        let failed = |error| {
            let kib = self.buffer_bytes / 1024;
            WatchError::of(
                format!("have a ring of {kib} KiB for the records of CPU {number}"),
                error,
            )
        };
        let ring = Ring::of(first, self.buffer_bytes).map_err(failed)?;
        others
            .iter()
            .try_for_each(|other| other.write_to_ring_of(first))
            .map_err(failed)?;
        events
            .iter()
            .try_for_each(PerfEvent::enable)
            .map_err(failed)?;
        Ok(Some(OnCpu {
            number,
            ring,
            events,
            ids,
        }))
    }

    /// The events that tell.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.events.iter().map(|event| &event.name[..])
    }

    /// What would have told more.
    #[must_use]
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// Whether every trap is seen, and from where each is sent back.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.probes.is_some()
    }

    /// What was told and not heard, so far.
    #[must_use]
    pub fn lost(&self) -> Lost {
        Lost {
            records: self.lost_records,
            probes: self.probes.as_ref().map_or(0, Probes::missed),
        }
    }

    /// The time now, on the clock of [`Happening::at_ns`].
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
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        let first_events = self.cpus.iter().filter_map(|cpu| cpu.events.first());
        let mut files: Vec<_> = first_events
            .map(|event| PollFd::new(event, PollFlags::IN))
            .collect();
        let timeout = Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match poll(&mut files, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What has happened since this was last asked, in the order of time; but for the last few milliseconds, because of
    /// which not everything may have been written yet.
    pub fn collect(&mut self) -> Vec<Happening> {
        let until = Self::now_ns().saturating_sub(SETTLE_NS);
        self.drain();
        self.take_waiting(until)
    }

    /// Whatever happened up to this moment has been collected, on the clock of [`Happening::at_ns`].
    #[must_use]
    pub fn heard_until_ns(&self) -> u64 {
        self.heard_until_ns
    }

    /// Ends the watch: what has happened up to now.
    ///
    /// # Errors
    /// If an event cannot be switched off.
    pub fn finish(&mut self) -> Result<Vec<Happening>, WatchError> {
        let mut events = self.cpus.iter().flat_map(|cpu| &cpu.events);
        events
            .try_for_each(PerfEvent::disable)
            .map_err(|error| WatchError::of("switch perf events off", error))?;
        self.drain();
        Ok(self.take_waiting(u64::MAX))
    }

    fn take_waiting(&mut self, until_ns: u64) -> Vec<Happening> {
        self.heard_until_ns = until_ns;
        // What one CPU has written is in order already, and stays so.
        self.waiting.sort_by_key(|happening| happening.at_ns);
        let count = self
            .waiting
            .partition_point(|happening| happening.at_ns <= until_ns);
        let later = self.waiting.split_off(count);
        std::mem::replace(&mut self.waiting, later)
    }

    fn drain(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for cpu in &mut self.cpus {
            buffer.clear();
            cpu.ring.drain(&mut buffer);
            // There are fewer than ten.
            let event = |id: u64| {
                let index = cpu.ids.iter().position(|&known| known == id)?;
                self.events.get(index)
            };
            let has_call_chain = |id| event(id).is_some_and(|event| event.has_call_chain);
            for record in records(&buffer, has_call_chain) {
                let sample = match record {
                    Record::Sample(sample) => sample,
                    Record::Lost(count) => {
                        self.lost_records += count;
                        continue;
                    }
                    Record::Other => continue,
                };
                let what = event(sample.id)
                    .and_then(|event| event.means(&sample, &self.symbols, self.tick_ns));
                let Some(what) = what else { continue };
                self.waiting.push(Happening {
                    at_ns: sample.at_ns,
                    cpu: sample.cpu,
                    tid: sample.tid,
                    pid: sample.pid,
                    what,
                });
            }
        }
        self.buffer = buffer;
    }
}

fn attributes(event: &Event, ring_bytes: usize) -> perf_event_attr {
    let mut sample_type = PERF_SAMPLE_IDENTIFIER
        | PERF_SAMPLE_TID
        | PERF_SAMPLE_TIME
        | PERF_SAMPLE_CPU
        | PERF_SAMPLE_RAW;
    if event.has_call_chain {
        sample_type |= PERF_SAMPLE_CALLCHAIN;
    }
    let mut attributes = perf_event_attr::default();
    attributes.type_ = PERF_TYPE_TRACEPOINT;
    attributes.config = event.id;
    attributes.sample_type = sample_type.into();
    attributes.sample_max_stack = if event.has_call_chain {
        DEEPEST_CALL_CHAIN
    } else {
        0
    };
    attributes.clockid = libc::CLOCK_MONOTONIC;
    attributes.__bindgen_anon_1.sample_period = 1;
    attributes.__bindgen_anon_2.wakeup_watermark = (ring_bytes / 2).try_into().unwrap_or(u32::MAX);
    attributes.set_watermark(1);
    attributes.set_use_clockid(1);
    attributes.set_disabled(1);
    attributes
}

fn symbols(places: &Places) -> Result<Symbols, WatchError> {
    let path = &places.kallsyms;
    let symbols = File::open(path).and_then(|file| Symbols::read(BufReader::new(file)));
    symbols.map_err(|error| WatchError::of(format!("read {}", path.display()), error))
}

fn probes(
    probing: Probing,
    tracefs: &Tracefs,
    symbols: &Symbols,
    missing: &mut Vec<Missing>,
) -> Option<Probes> {
    if probing == Probing::Never {
        missing.push(no_probes("they were not asked for".to_owned()));
        return None;
    }
    let number = OPENED.fetch_add(1, Ordering::Relaxed);
    let why = match Probes::define(tracefs, symbols, number) {
        Ok(Some(probes)) => return Some(probes),
        Ok(None) => "the kernel has none (CONFIG_KPROBE_EVENTS)".to_owned(),
        Err(error) => {
            let file = tracefs.path().join("kprobe_events");
            format!("{}: {error}", file.display())
        }
    };
    missing.push(no_probes(why));
    None
}

fn no_probes(why: String) -> Missing {
    Missing {
        what: "kernel probes".to_owned(),
        why,
        so: "it is not seen where a guest traps, what a signal interrupts, and traps without a sleep that a signal sends back",
    }
}

fn events(
    tracefs: &Tracefs,
    symbols: &Symbols,
    probes: Option<&Probes>,
) -> Result<Vec<Event>, WatchError> {
    let mut events = vec![Event::write_msr(tracefs, probes.is_none())?];
    match (probes, symbols.timers_that_tell()) {
        (Some(probes), _) => events.extend(Event::of_probes(tracefs, probes)?),
        (None, Some(function)) => events.push(Event::timer_start(tracefs, function)?),
        (None, None) => {
            return Err(WatchError::NoTraps {
                why: if symbols.are_hidden {
                    "where the kernel's functions lie is hidden from this user (kernel.kptr_restrict; it takes CAP_SYSLOG)"
                } else {
                    "the kernel is older than 5.19, or its functions have other names"
                },
            });
        }
    }
    Ok(events)
}

/// There perf calls all threads of the host by the same number.
fn refuse_containers() -> Result<(), WatchError> {
    let namespace = fs::read_link("/proc/self/ns/pid");
    let is_initial = |link: std::path::PathBuf| link.to_str() == Some(INITIAL_NAMESPACE);
    match namespace.map(is_initial) {
        Ok(false) => Err(WatchError::Contained),
        // Without procfs nothing else would work.
        Ok(true) | Err(_) => Ok(()),
    }
}

fn cpus(places: &Places) -> Result<Vec<u32>, WatchError> {
    let path = &places.cpus;
    let failed = |error| WatchError::of(format!("read {}", path.display()), error);
    let text = fs::read_to_string(path).map_err(failed)?;
    cpu_list(&text).ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))
}

/// `0-3,6`
fn cpu_list(text: &str) -> Option<Vec<u32>> {
    const MOST_CPUS: u32 = 1 << 16;
    let mut cpus = vec![];
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last >= MOST_CPUS {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    const WRITE_MSR: (&str, &str) = (
        "tracing/events/msr/write_msr/format",
        "ID: 1\n\tfield:u64 val;\toffset:16;\tsize:8;\tsigned:0;\n",
    );

    /// Why a made-up kernel cannot be watched without probes.
    fn refusal(files: &[(&str, &str)], kallsyms: &str) -> String {
        let root =
            fixture::folder(&[files, &[("kallsyms", kallsyms), ("tracing/events/x", "")]].concat());
        let places = Places {
            tracing: vec![root.path().join("tracing")],
            kallsyms: root.path().join("kallsyms"),
            ..Places::default()
        };
        let settings = Settings {
            probing: Probing::Never,
            ..Settings::default()
        };
        Watch::open_in(&settings, &places).unwrap_err().to_string()
    }

    #[test]
    fn a_kernel_that_tells_too_little_is_named_with_what_it_lacks() {
        let handler = "ffffffff81322e50 T handle_guest_split_lock\n";
        let said = refusal(&[], handler);
        assert!(said.contains("has no tracepoint msr:write_msr"), "{said}");
        let said = refusal(&[WRITE_MSR], "ffffffff81322e50 T vfs_read\n");
        assert!(said.contains("no split-lock detection"), "{said}");
        let hidden = "0000000000000000 T handle_guest_split_lock\n";
        let said = refusal(&[WRITE_MSR], hidden);
        assert!(said.contains("kernel.kptr_restrict"), "{said}");
        let said = refusal(
            &[WRITE_MSR],
            &format!("{handler}ffffffff81400000 t process_timeout\n"),
        );
        assert!(said.contains("older than 5.19"), "{said}");
    }

    #[test]
    fn lists_of_cpus_are_read_as_sysfs_writes_them() {
        assert_eq!(cpu_list("0\n"), Some(vec![0]));
        assert_eq!(cpu_list("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        for wrong in ["", "a", "1-", "0-4294967295", "0,,1"] {
            assert_eq!(cpu_list(wrong), None, "{wrong}");
        }
    }
}
