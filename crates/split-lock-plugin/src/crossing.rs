//! What is done about a split lock: it is counted, and where it is new, looked at.

use std::cell::Cell;

use split_lock_find::records::{MOST_CALLERS, SiteRecord, Target};

use crate::place::Mappings;
use crate::plugin::Plugin;
use crate::sys;

thread_local! {
    static SERIAL: Cell<Option<u64>> = const { Cell::new(None) };
}

/// A forked process has the memory of the thread that made it, and is another one.
pub(crate) fn forget_thread() {
    SERIAL.set(None);
}

impl Plugin {
    /// The instruction of that number has stored an operand across the end of a cache line. `None` if there is no room for
    /// its record.
    pub(crate) fn split(
        &self,
        number: usize,
        address: u64,
        bytes: u64,
        vcpu: u32,
    ) -> Option<SiteRecord<'static>> {
        let callers = self.callers.return_addresses(vcpu);
        let record = match self.candidates.record(number) {
            Some(record) => self.recorder.numbered_site(record),
            None => self.find_site(number, address, &callers),
        };
        match record {
            Some(record) => {
                if self.target != Target::System {
                    record.compare_callers(&callers);
                }
                record.add(address, bytes, self.thread(vcpu));
            }
            None => self.recorder.count_without_site(),
        }
        record
    }

    fn find_site(
        &self,
        number: usize,
        operand: u64,
        callers: &[u64; MOST_CALLERS],
    ) -> Option<SiteRecord<'static>> {
        let code = self.candidates.code(number)?;
        let (record, is_new) = self.recorder.site(&code)?;
        self.candidates.set_record(number, record.number());
        if is_new && self.target != Target::System {
            let mappings = Mappings::read(self.above_program());
            if let Some((path, start)) = mappings.file(code.pc) {
                record.set_module(path, start);
            }
            record.set_callers(callers, |address| mappings.file(address));
            record.set_place(&mappings.place(operand, &self.layout));
            record.set_thread(sys::thread_id(), &sys::thread_name());
        }
        Some(record)
    }

    /// A thread of a program has a number of its own; a machine's threads are its vCPUs.
    fn thread(&self, vcpu: u32) -> u64 {
        if self.target == Target::System {
            return vcpu.into();
        }
        SERIAL.get().unwrap_or_else(|| {
            let serial = self.recorder.next_thread();
            SERIAL.set(Some(serial));
            serial
        })
    }
}
