//! The events and the ring of one CPU.

use std::fs;
use std::io;

use perf_event_open_sys::bindings::{
    PERF_SAMPLE_CALLCHAIN, PERF_SAMPLE_CPU, PERF_SAMPLE_IDENTIFIER, PERF_SAMPLE_RAW,
    PERF_SAMPLE_TID, PERF_SAMPLE_TIME, PERF_TYPE_TRACEPOINT, perf_event_attr,
};

use super::error::WatchError;
use super::perf_event::PerfEvent;
use super::tracefs::SystemPaths;
use crate::sys::{PerfEventFd, Ring};

/// The events of one CPU, all of which write to the first one's ring.
#[derive(Debug)]
pub(super) struct CpuEvents {
    pub(super) number: u32,
    pub(super) ring: Ring,
    pub(super) events: Vec<PerfEventFd>,
    /// What the kernel calls each of them in its records.
    pub(super) ids: Vec<u64>,
}

const DEEPEST_CALL_CHAIN: u16 = 32;

impl CpuEvents {
    /// Of one of so many CPUs. `None` if the CPU has just gone.
    pub(super) fn open(
        wanted: &[PerfEvent],
        number: u32,
        ring_bytes: usize,
        cpus: usize,
    ) -> Result<Option<Self>, WatchError> {
        let (mut events, mut ids) = (vec![], vec![]);
        for event in wanted {
            let failed = |error: io::Error| match error.raw_os_error() {
                Some(libc::EMFILE) => WatchError::TooManyFiles {
                    cpus,
                    needed: (cpus + 8) * (wanted.len() + 1),
                },
                _ => WatchError::of(
                    format!("open the perf event {} on CPU {number}", event.name),
                    error,
                ),
            };
            let opened = match PerfEventFd::open(&attributes(event, ring_bytes), number) {
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
        let start = || {
            let ring = Ring::of(first, ring_bytes)?;
            for other in others {
                other.write_to_ring_of(first)?;
            }
            events.iter().try_for_each(PerfEventFd::enable)?;
            Ok(ring)
        };
        let ring = start().map_err(|error| {
            let kib = ring_bytes / 1024;
            let what = format!("have a ring of {kib} KiB for the records of CPU {number}");
            WatchError::of(what, error)
        })?;
        Ok(Some(Self {
            number,
            ring,
            events,
            ids,
        }))
    }
}

fn attributes(event: &PerfEvent, ring_bytes: usize) -> perf_event_attr {
    let mut sample_type = PERF_SAMPLE_IDENTIFIER
        | PERF_SAMPLE_TID
        | PERF_SAMPLE_TIME
        | PERF_SAMPLE_CPU
        | PERF_SAMPLE_RAW;
    let mut attributes = perf_event_attr::default();
    if event.has_call_chain {
        sample_type |= PERF_SAMPLE_CALLCHAIN;
        attributes.sample_max_stack = DEEPEST_CALL_CHAIN;
    }
    attributes.type_ = PERF_TYPE_TRACEPOINT;
    attributes.config = event.id;
    attributes.sample_type = sample_type.into();
    attributes.clockid = libc::CLOCK_MONOTONIC;
    attributes.__bindgen_anon_1.sample_period = 1;
    attributes.__bindgen_anon_2.wakeup_watermark = (ring_bytes / 2).try_into().unwrap_or(u32::MAX);
    attributes.set_watermark(1);
    attributes.set_use_clockid(1);
    attributes.set_disabled(1);
    attributes
}

/// The CPUs that are online, in their order.
pub(super) fn online(paths: &SystemPaths) -> Result<Vec<u32>, WatchError> {
    let path = &paths.cpus;
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

    #[test]
    fn lists_of_cpus_are_read_as_sysfs_writes_them() {
        assert_eq!(cpu_list("0\n"), Some(vec![0]));
        assert_eq!(cpu_list("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        for wrong in ["", "a", "1-", "0-4294967295", "0,,1"] {
            assert_eq!(cpu_list(wrong), None, "{wrong}");
        }
    }
}
