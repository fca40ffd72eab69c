//! What a log says about split locks, written as the kernel would.

use std::time::Duration;

use crate::Events;
use split_lock_log::{Boot, Exception, Message, Reaction, Record, Trap, TrapKind};

/// No capture needs a longer log.
const MOST_BYTES: usize = 1 << 20;

const PREFIX: &str = "x86/split lock detection: ";

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
        if let Some(message) = message(&record.message) {
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

fn message(message: &Message) -> Option<Vec<u8>> {
    Some(match message {
        Message::Trap(trap) => trapped(trap),
        Message::Boot(line) => format!("{PREFIX}{}", boot(*line)).into_bytes(),
        Message::Suppressed(suppressed) => {
            let function = match suppressed.exception {
                Exception::AlignmentCheck => "split_lock_warn",
                Exception::Debug => "handle_bus_lock",
            };
            format!("{function}: {} callbacks suppressed", suppressed.count).into_bytes()
        }
        Message::RefusedWrite(write) => format!(
            "unchecked MSR access error: WRMSR to 0x33 (tried to write {:#018x}) at rIP: {:#x} (native_write_msr)",
            write.value, write.rip
        )
        .into_bytes(),
        Message::Started { release } => [b"Linux version ", &release[..], b" ()"].concat(),
        Message::Damaged { .. } => return None,
    })
}

fn trapped(trap: &Trap) -> Vec<u8> {
    let (exception, what) = match trap.kind {
        TrapKind::SplitLock => ("#AC", "took a split_lock trap"),
        TrapKind::FatalSplitLock => ("#AC", "fatal split_lock trap"),
        TrapKind::BogusSplitLock => ("#AC", "bogus split_lock trap"),
        TrapKind::BusLock => ("#DB", "took a bus_lock trap"),
    };
    let (tid, address) = (trap.tid, trap.address);
    [
        format!("{PREFIX}{exception}: ").as_bytes(),
        &trap.comm,
        format!("/{tid} {what} at address: {address:#x}").as_bytes(),
    ]
    .concat()
}

fn boot(line: Boot) -> String {
    let of = |reaction| match reaction {
        Reaction::Warn => "warning",
        Reaction::Sigbus => "sending SIGBUS",
    };
    match line {
        Boot::Disabled => "disabled".into(),
        Boot::SplitLocks(reaction) => format!(
            "#AC: crashing the kernel on kernel split_locks and {} on user-space split_locks",
            of(reaction)
        ),
        Boot::SplitLocksBefore513(Reaction::Warn) => "warning about user-space split_locks".into(),
        Boot::SplitLocksBefore513(Reaction::Sigbus) => {
            "sending SIGBUS on user-space split_locks".into()
        }
        Boot::BusLocks {
            reaction,
            only_not_write_back,
        } => format!(
            "#DB: {} on user-space bus_locks{}",
            of(reaction),
            if only_not_write_back {
                " from non-WB"
            } else {
                ""
            }
        ),
        Boot::BusLockRate { per_second } => {
            format!("#DB: setting system wide bus lock rate limit to {per_second}/sec")
        }
        Boot::MsrAccessFailed => "MSR access failed: Disabled".into(),
        Boot::NoOfflineHandler => "No splitlock CPU offline handler".into(),
    }
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
