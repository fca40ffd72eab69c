//! The records of all CPUs, as events in the order of time.

use super::cpu::CpuEvents;
use super::record::{Record, Switch, records};
use super::setup::Sources;
use super::thread::ThreadSwitches;
use crate::event::{Event, EventKind};
use crate::thread_table::ThreadId;

#[derive(Debug, Default)]
pub(super) struct EventQueue {
    /// Seen, and perhaps not yet in order.
    waiting: Vec<Event>,
    pub(super) taken_until_ns: u64,
    pub(super) lost_records: u64,
    buffer: Vec<u8>,
}

impl EventQueue {
    /// Adds what one CPU has written since it was last read.
    pub(super) fn drain(&mut self, cpu: &mut CpuEvents, sources: &Sources) {
        self.buffer.clear();
        cpu.ring.drain(&mut self.buffer);
        // There are fewer than ten.
        let event = |id: u64| {
            let index = cpu.ids.iter().position(|&known| known == id)?;
            sources.events.get(index)
        };
        let has_call_chain = |id| event(id).is_some_and(|event| event.has_call_chain);
        for record in records(&self.buffer, has_call_chain) {
            let sample = match record {
                Record::Sample(sample) => sample,
                Record::Lost(count) => {
                    self.lost_records += count;
                    continue;
                }
                Record::Switch(_) | Record::Other => continue,
            };
            let kind = event(sample.id)
                .and_then(|event| event.decode(&sample, &sources.symbols, sources.tick_ns));
            self.waiting.extend(kind.map(|kind| Event {
                at_ns: sample.at_ns,
                cpu: sample.cpu,
                tid: sample.tid,
                pid: sample.pid,
                kind,
            }));
        }
    }

    /// From now on a thread's switches are seen.
    pub(super) fn begin_switches(&mut self, thread: ThreadId, at_ns: u64) {
        self.waiting.push(Event {
            at_ns,
            cpu: 0,
            tid: thread.tid,
            pid: thread.pid,
            kind: EventKind::SwitchesSeen,
        });
    }

    /// Adds a thread's switches. Where some were lost, they are seen again from now on.
    pub(super) fn drain_switches(&mut self, switches: &mut ThreadSwitches, now_ns: u64) {
        self.buffer.clear();
        switches.ring.drain(&mut self.buffer);
        let ThreadId { pid, tid } = switches.thread;
        for record in records(&self.buffer, |_| false) {
            let (at_ns, cpu, kind) = match record {
                Record::Switch(Switch {
                    is_out: true,
                    is_preempted,
                    at_ns,
                    cpu,
                }) => (at_ns, cpu, EventKind::OffCpu { is_preempted }),
                Record::Switch(switch) => (switch.at_ns, switch.cpu, EventKind::OnCpu),
                Record::Lost(_) => (now_ns, 0, EventKind::SwitchesSeen),
                Record::Sample(_) | Record::Other => continue,
            };
            self.waiting.push(Event {
                at_ns,
                cpu,
                tid,
                pid,
                kind,
            });
        }
    }

    /// Who has opened a window since then, among what has not been taken.
    pub(super) fn windows_since(&self, since_ns: u64) -> impl Iterator<Item = ThreadId> {
        let opens = move |event: &&Event| {
            event.at_ns >= since_ns && matches!(event.kind, EventKind::Detection { on: false, .. })
        };
        self.waiting.iter().filter(opens).map(Event::thread)
    }

    pub(super) fn take_until(&mut self, until_ns: u64) -> Vec<Event> {
        self.taken_until_ns = until_ns;
        // What one CPU has written is in order already, and stays so.
        self.waiting.sort_by_key(|event| event.at_ns);
        let count = self
            .waiting
            .partition_point(|event| event.at_ns <= until_ns);
        self.waiting.drain(..count).collect()
    }
}
