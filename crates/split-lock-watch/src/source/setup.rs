//! Which events a kernel has to offer, and what is missing for that.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use split_lock_host::attribution::INITIAL_PID_NAMESPACE;

use super::error::WatchError;
use super::perf_event::PerfEvent;
use super::probes::Probes;
use super::symbols::Symbols;
use super::tracefs::{SystemPaths, Tracefs};

/// How to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Whether to define kernel probes.
    pub probing: Probing,
    /// Bytes of the ring of each CPU; rounded up to a power of two.
    pub buffer_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            probing: Probing::WherePossible,
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
pub struct MissingSource {
    /// What it is.
    pub what: String,
    /// Why it is not there.
    pub why: String,
    /// What is not seen for that.
    #[serde(rename = "so")]
    pub consequence: &'static str,
}

/// What tells of split locks on this kernel, and what is needed to understand it.
#[derive(Debug)]
pub(super) struct Sources {
    tracefs: Tracefs,
    pub(super) events: Vec<PerfEvent>,
    pub(super) probes: Option<Probes>,
    pub(super) symbols: Symbols,
    pub(super) tick_ns: u64,
    pub(super) missing: Option<MissingSource>,
}

/// If nothing is known of the kernel's: the longest.
const LONGEST_TICK_NS: u64 = 10_000_000;

static OPENED: AtomicU64 = AtomicU64::new(0);

impl Sources {
    /// Those that can be listened to at once: windows, and all the rest if there are probes. Without them
    /// [`Sources::add_sleeps`] is to follow.
    pub(super) fn find(settings: &Settings, paths: &SystemPaths) -> Result<Self, WatchError> {
        let tracefs = Tracefs::find(paths)?;
        let (probes, missing) = match probes(settings.probing, &tracefs) {
            Ok(probes) if !probes.see_traps() => return Err(WatchError::NoHandler),
            Ok(probes) => (Some(probes), None),
            Err(why) => (None, Some(no_probes(why))),
        };
        let mut events = vec![PerfEvent::write_msr(&tracefs, probes.is_none())?];
        if let Some(probes) = &probes {
            events.extend(PerfEvent::of_probes(&tracefs, probes)?);
        }
        Ok(Self {
            tracefs,
            events,
            probes,
            symbols: Symbols::default(),
            tick_ns: LONGEST_TICK_NS,
            missing,
        })
    }

    /// What tells of traps where there are no probes, and of the windows that were seen before, whose they are. It takes the
    /// whole list of the kernel's symbols.
    pub(super) fn add_sleeps(&mut self, paths: &SystemPaths) -> Result<(), WatchError> {
        let path = &paths.kallsyms;
        let symbols = File::open(path).and_then(|file| Symbols::read(BufReader::new(file)));
        self.symbols =
            symbols.map_err(|error| WatchError::of(format!("read {}", path.display()), error))?;
        if !self.symbols.has_handlers() {
            return Err(WatchError::NoHandler);
        }
        let Some(function) = self.symbols.timers_that_tell() else {
            return Err(WatchError::NoTraps {
                why: if self.symbols.are_hidden {
                    "where the kernel's functions lie is hidden from this user (kernel.kptr_restrict; it takes CAP_SYSLOG)"
                } else {
                    "the kernel is older than 5.19, or its functions have other names"
                },
            });
        };
        self.events
            .push(PerfEvent::timer_start(&self.tracefs, function)?);
        Ok(())
    }

    pub(super) fn missed_by_probes(&self) -> u64 {
        self.probes.as_ref().map_or(0, Probes::missed)
    }
}

fn probes(probing: Probing, tracefs: &Tracefs) -> Result<Probes, String> {
    if probing == Probing::Never {
        return Err("they were not asked for".to_owned());
    }
    let number = OPENED.fetch_add(1, Ordering::Relaxed);
    match Probes::define(tracefs, number) {
        Ok(Some(probes)) => Ok(probes),
        Ok(None) => Err("the kernel has none (CONFIG_KPROBE_EVENTS)".to_owned()),
        Err(error) => {
            let file = tracefs.path().join("kprobe_events");
            Err(format!("{}: {error}", file.display()))
        }
    }
}

fn no_probes(why: String) -> MissingSource {
    MissingSource {
        what: "kernel probes".to_owned(),
        why,
        consequence: "it is not seen where a guest traps, what a signal interrupts, and traps without a sleep that a signal sends back",
    }
}

/// In a container perf calls all threads of the host by the same number.
pub(super) fn refuse_containers() -> Result<(), WatchError> {
    let namespace = fs::read_link("/proc/self/ns/pid");
    let is_initial = |link: PathBuf| link.to_str() == Some(INITIAL_PID_NAMESPACE);
    match namespace.map(is_initial) {
        Ok(false) => Err(WatchError::Contained),
        // Without procfs nothing else would work.
        Ok(true) | Err(_) => Ok(()),
    }
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
        let paths = SystemPaths {
            tracing: vec![root.path().join("tracing")],
            kallsyms: root.path().join("kallsyms"),
            ..SystemPaths::default()
        };
        let settings = Settings {
            probing: Probing::Never,
            ..Settings::default()
        };
        let found = Sources::find(&settings, &paths);
        let complete = found.and_then(|mut sources| sources.add_sleeps(&paths));
        complete.unwrap_err().to_string()
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
}
