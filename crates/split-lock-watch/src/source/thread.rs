//! When one thread leaves its CPU and comes back to one.

use perf_event_open_sys::bindings::{PERF_COUNT_SW_DUMMY, PERF_TYPE_SOFTWARE, perf_event_attr};

use super::cpu::{SAMPLE_TYPE, ring_attributes};
use crate::sys::{PerfEventFd, Ring};
use crate::thread_table::ThreadId;

/// The switches of one thread, in a ring of its own.
#[derive(Debug)]
pub(super) struct ThreadSwitches {
    pub(super) thread: ThreadId,
    pub(super) ring: Ring,
    // The kernel writes to the ring as long as this is open.
    _event: PerfEventFd,
}

/// Some four hundred switches, between two looks.
const RING_BYTES: usize = 16 << 10;

impl ThreadSwitches {
    pub(super) fn open(thread: ThreadId) -> std::io::Result<Self> {
        let event = PerfEventFd::open_on_thread(&attributes(), thread.tid)?;
        let ring = Ring::of(&event, RING_BYTES)?;
        event.enable()?;
        Ok(Self {
            thread,
            ring,
            _event: event,
        })
    }
}

fn attributes() -> perf_event_attr {
    let mut attributes = ring_attributes(RING_BYTES);
    attributes.type_ = PERF_TYPE_SOFTWARE;
    attributes.config = PERF_COUNT_SW_DUMMY.into();
    attributes.sample_type = SAMPLE_TYPE.into();
    attributes.set_context_switch(1);
    attributes.set_sample_id_all(1);
    attributes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::source::record::{Record, records};

    #[test]
    fn a_sleep_is_told_from_a_preemption() {
        let (to_thread, from_test) = std::sync::mpsc::channel();
        let (to_test, from_thread) = std::sync::mpsc::channel();
        let sleeper = std::thread::spawn(move || {
            to_test.send(rustix::thread::gettid()).unwrap();
            from_test.recv().unwrap();
            (0..10).for_each(|_| std::thread::sleep(Duration::from_millis(1)));
        });
        let tid = from_thread.recv().unwrap().as_raw_nonzero().get();
        let thread = ThreadId {
            pid: std::process::id(),
            tid: tid.unsigned_abs(),
        };
        let mut switches = match ThreadSwitches::open(thread) {
            Ok(switches) => switches,
            Err(error) => return eprintln!("skipped: perf events are not to be had here: {error}"),
        };
        to_thread.send(()).unwrap();
        sleeper.join().unwrap();
        let mut bytes = vec![];
        switches.ring.drain(&mut bytes);
        let switches: Vec<_> = records(&bytes, |_| false)
            .filter_map(|record| match record {
                Record::Switch(switch) => Some(switch),
                _ => None,
            })
            .collect();
        let sleeps = switches.iter().filter(|s| s.is_out && !s.is_preempted);
        assert!(sleeps.count() >= 10, "{switches:?}");
        let backs = switches.iter().filter(|switch| !switch.is_out);
        assert!(backs.count() >= 10, "{switches:?}");
        assert!(switches.is_sorted_by_key(|switch| switch.at_ns));
    }
}
