//! The records of all CPUs, as events in the order of time.

use super::cpu::CpuEvents;
use super::record::{Record, records};
use super::setup::Sources;
use crate::event::Event;

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
                Record::Other => continue,
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
