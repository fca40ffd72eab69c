//! The kernel's trace of an experiment's threads.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use split_lock_lab::cpu::trace::{BEGIN, END, GROUP, MAY_MISS, TRACEPOINTS, probes};
use split_lock_model::policy::Alternative;

use crate::setting;

const TRACING: &str = "/sys/kernel/tracing";

/// Of one CPU, in KiB: for some hundred thousand events.
const BUFFER_KB: u32 = 16 << 10;

/// Probes that are defined, and switched on only while something is recorded.
#[derive(Debug)]
pub(crate) struct Tracer(());

/// What was recorded.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) trace: Vec<u8>,
    pub(crate) lost_events: u64,
    pub(crate) missed_probes: u64,
}

impl Tracer {
    /// Times are those of the CPU's journal: counts of its TSC.
    pub(crate) fn new(policy: Option<Alternative>) -> Result<Self> {
        set("trace_clock", "x86-tsc")?;
        set("buffer_size_kb", &BUFFER_KB.to_string())?;
        set("tracing_on", "0")?;
        for event in TRACEPOINTS {
            enable(event)?;
        }
        define(&probes(policy))?;
        Ok(Self(()))
    }

    /// What happens from now on, until [`Tracer::end`].
    pub(crate) fn begin(&self) -> Result<()> {
        set("trace", "")?;
        set("tracing_on", "1")?;
        self.mark(BEGIN)
    }

    /// A word between the events.
    pub(crate) fn mark(&self, word: &str) -> Result<()> {
        set("trace_marker", word)
    }

    pub(crate) fn end(&self) -> Result<Recording> {
        self.mark(END)?;
        set("tracing_on", "0")?;
        let recording = Recording {
            trace: trace()?,
            lost_events: lost_events()?,
            missed_probes: missed_probes()?,
        };
        Ok(recording)
    }
}

/// Defines kprobe events of our group, and switches them on.
pub(crate) fn define(probes: &[impl AsRef<str>]) -> Result<()> {
    for probe in probes {
        setting::append(file("kprobe_events"), probe.as_ref())?;
    }
    enable(GROUP)
}

fn enable(events: &str) -> Result<()> {
    set(&format!("events/{events}/enable"), "1")
}

/// All that has been recorded.
pub(crate) fn trace() -> Result<Vec<u8>> {
    fs::read(file("trace")).context("cannot read the kernel's trace")
}

/// Of all CPUs, since the buffers were emptied.
fn lost_events() -> Result<u64> {
    const COUNTS: [&str; 3] = ["overrun:", "commit overrun:", "dropped events:"];
    let mut lost = 0;
    for cpu in fs::read_dir(file("per_cpu")).context("no trace buffers")? {
        let stats = fs::read_to_string(cpu?.path().join("stats"))?;
        let counts = stats.lines().filter_map(|line| {
            let count = COUNTS.iter().find_map(|name| line.strip_prefix(name))?;
            count.trim().parse::<u64>().ok()
        });
        lost += counts.sum::<u64>();
    }
    Ok(lost)
}

/// Of all probes that must not miss anything, since they were defined.
fn missed_probes() -> Result<u64> {
    let profile = fs::read_to_string(file("kprobe_profile")).context("no counts of probes")?;
    let missed = profile.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (event, _hits, misses) = (words.next()?, words.next()?, words.next()?);
        (event != MAY_MISS).then(|| misses.parse::<u64>().ok())?
    });
    Ok(missed.sum())
}

fn file(name: &str) -> PathBuf {
    Path::new(TRACING).join(name)
}

fn set(name: &str, value: &str) -> Result<()> {
    setting::write(file(name), value)
}
