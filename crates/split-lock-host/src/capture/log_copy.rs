//! What a log says about split locks, written as the kernel would.

use std::time::Duration;

use crate::Events;
use split_lock_log::{Message, Record};

/// No capture needs a longer log.
const MOST_BYTES: usize = 1 << 20;

/// The kernel's messages about split locks, without anything else that its log may hold.
///
/// Messages that are damaged are left out: what else is in their lines is not known.
#[derive(Debug, Default)]
pub struct LogCopy {
    lines: Vec<u8>,
}

impl LogCopy {
    /// Adds what a record says. Where there is too much the first of the last boot is kept.
    pub fn add(&mut self, record: &Record) {
        let is_start = matches!(record.message, Message::Started { .. });
        if is_start && self.lines.len() > MOST_BYTES / 2 {
            self.lines.clear();
        } else if self.lines.len() > MOST_BYTES {
            return;
        }
        if let Some(message) = record.message.to_kernel_text() {
            self.lines.extend(stamp(record.stamp.uptime));
            self.lines.extend(message);
            self.lines.push(b'\n');
        }
    }

    /// The whole, with a first line that tells whether the log began at boot.
    pub(super) fn text(&self, events: &Events) -> Vec<u8> {
        let first = match events.begins_at_boot {
            true => "[    0.000000] (here the log begins)\n",
            false => "[    1.000000] (the log begins later than the kernel)\n",
        };
        [first.as_bytes(), &self.lines].concat()
    }
}

fn stamp(uptime: Option<Duration>) -> Vec<u8> {
    uptime.map_or(vec![], |uptime| {
        let (seconds, micros) = (uptime.as_secs(), uptime.subsec_micros());
        format!("[{seconds:5}.{micros:06}] ").into_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::History;

    fn copy(log: &str) -> (Events, Vec<u8>) {
        let mut copy = LogCopy::default();
        let events = History::of_log(log.as_bytes(), |record| copy.add(record)).unwrap();
        let text = copy.text(&events);
        (events, text)
    }

    /// A flood in an earlier boot does not push out what the kernel said when it last started.
    #[test]
    fn the_last_boot_is_what_counts() {
        let flood = "[    9.000000] x86/split lock detection: #DB: steam/7 took a bus_lock trap at address: 0x1000\n";
        let log = format!(
            "[    0.000000] Linux version 6.14.0 (x)\n{}[    0.000000] Linux version 6.14.1 (x)\n\
             [    0.100000] x86/split lock detection: #DB: warning on user-space bus_locks\n{flood}",
            flood.repeat(20_000)
        );
        let (events, text) = copy(&log);
        assert!(text.len() < 2 * MOST_BYTES);
        let again = History::of_log(&text[..], |_| ()).unwrap();
        assert_eq!(again, events);
        assert_eq!((events.boot.len(), events.debug_exceptions), (1, 1));
    }
}
