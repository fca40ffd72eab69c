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

/// On one CPU, with one to spare.
const MOST_EVENTS: usize = 8;

/// What every record of ours is asked for.
pub(super) const SAMPLE_TYPE: u32 =
    PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU;

impl CpuEvents {
    /// Of one of so many CPUs; they are to be switched on. `None` if there are none, or the CPU has just gone.
    pub(super) fn open(
        wanted: &[PerfEvent],
        number: u32,
        ring_bytes: usize,
        cpus: usize,
    ) -> Result<Option<Self>, WatchError> {
        let Some((first, others)) = wanted.split_first() else {
            return Ok(None);
        };
        let Some((event, id)) = open(first, number, ring_bytes, cpus)? else {
            return Ok(None);
        };
        let ring = Ring::of(&event, ring_bytes).map_err(|error| {
            let kib = ring_bytes / 1024;
            let what = format!("have a ring of {kib} KiB for the records of CPU {number}");
            WatchError::of(what, error)
        })?;
        let mut cpu = Self {
            number,
            ring,
            events: vec![event],
            ids: vec![id],
        };
        let is_there = cpu.add(others, ring_bytes, cpus)?;
        Ok(is_there.then_some(cpu))
    }

    /// More events, which write to the same ring. False if the CPU has just gone.
    pub(super) fn add(
        &mut self,
        wanted: &[PerfEvent],
        ring_bytes: usize,
        cpus: usize,
    ) -> Result<bool, WatchError> {
        for other in wanted {
            let Some((event, id)) = open(other, self.number, ring_bytes, cpus)? else {
                return Ok(false);
            };
            if let Some(first) = self.events.first() {
                let added = event.write_to_ring_of(first);
                added.map_err(|error| other.failed(self.number, error))?;
            }
            self.events.push(event);
            self.ids.push(id);
        }
        Ok(true)
    }
}

/// Switches events on, each of them on all CPUs before the next.
pub(super) fn enable(
    cpus: &[CpuEvents],
    wanted: &[PerfEvent],
    from: usize,
) -> Result<(), WatchError> {
    for (index, event) in wanted.iter().enumerate().skip(from) {
        for cpu in cpus {
            let Some(opened) = cpu.events.get(index) else {
                continue;
            };
            opened
                .enable()
                .map_err(|error| event.failed(cpu.number, error))?;
        }
    }
    Ok(())
}

/// An event, and what the kernel calls it.
fn open(
    event: &PerfEvent,
    cpu: u32,
    ring_bytes: usize,
    cpus: usize,
) -> Result<Option<(PerfEventFd, u64)>, WatchError> {
    let failed = |error: io::Error| event.failed(cpu, error);
    let opened = match PerfEventFd::open(&attributes(event, ring_bytes), cpu) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
            return Err(WatchError::TooManyFiles {
                cpus,
                needed: (cpus + 8) * MOST_EVENTS,
            });
        }
        opened => opened.map_err(failed)?,
    };
    if let Some(filter) = &event.filter {
        opened.set_filter(filter).map_err(failed)?;
    }
    let id = opened.id().map_err(failed)?;
    Ok(Some((opened, id)))
}

fn attributes(event: &PerfEvent, ring_bytes: usize) -> perf_event_attr {
    let mut attributes = ring_attributes(ring_bytes);
    let mut sample_type = SAMPLE_TYPE | PERF_SAMPLE_RAW;
    if event.has_call_chain {
        sample_type |= PERF_SAMPLE_CALLCHAIN;
        attributes.sample_max_stack = DEEPEST_CALL_CHAIN;
    }
    attributes.type_ = PERF_TYPE_TRACEPOINT;
    attributes.config = event.id;
    attributes.sample_type = sample_type.into();
    attributes.__bindgen_anon_1.sample_period = 1;
    attributes
}

/// Of an event that is to be switched on, whose ring is looked into when it is half full.
pub(super) fn ring_attributes(ring_bytes: usize) -> perf_event_attr {
    let mut attributes = perf_event_attr::default();
    attributes.clockid = libc::CLOCK_MONOTONIC;
    attributes.__bindgen_anon_2.wakeup_watermark = (ring_bytes / 2).try_into().unwrap_or(u32::MAX);
    attributes.set_watermark(1);
    attributes.set_use_clockid(1);
    attributes.set_disabled(1);
    attributes
}

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
