//! What the kernel says of detection when it starts.

use super::{Ending, Parsed, TRAPS, counted, ends_a_message, is_beginning_of_trap};
use crate::{Boot, Message, Reaction};

const fn bus_locks(reaction: Reaction, only_not_write_back: bool) -> Boot {
    Boot::BusLocks {
        reaction,
        only_not_write_back,
    }
}

pub(super) const BOOT: [(&[u8], Boot); 10] = [
    (b"disabled", Boot::Disabled),
    (
        b"#AC: crashing the kernel on kernel split_locks and warning on user-space split_locks",
        Boot::SplitLocks(Reaction::Warn),
    ),
    (
        b"#AC: crashing the kernel on kernel split_locks and sending SIGBUS on user-space split_locks",
        Boot::SplitLocks(Reaction::Sigbus),
    ),
    (
        b"warning about user-space split_locks",
        Boot::SplitLocksBefore513(Reaction::Warn),
    ),
    (
        b"sending SIGBUS on user-space split_locks",
        Boot::SplitLocksBefore513(Reaction::Sigbus),
    ),
    (
        b"#DB: warning on user-space bus_locks",
        bus_locks(Reaction::Warn, false),
    ),
    (
        b"#DB: sending SIGBUS on user-space bus_locks",
        bus_locks(Reaction::Sigbus, false),
    ),
    (
        b"#DB: sending SIGBUS on user-space bus_locks from non-WB",
        bus_locks(Reaction::Sigbus, true),
    ),
    (b"MSR access failed: Disabled", Boot::MsrAccessFailed),
    (b"No splitlock CPU offline handler", Boot::NoOfflineHandler),
];

pub(super) const RATE: (&[u8], &[u8]) =
    (b"#DB: setting system wide bus lock rate limit to ", b"/sec");

/// Reads it behind the prefix.
pub(super) fn boot(body: &[u8]) -> Parsed {
    // Whoever shortens a log leaves dots behind.
    let body = body.strip_suffix(b"...").unwrap_or(body).trim_ascii_end();
    let longest = |(text, _): &&(&[u8], Boot)| text.len();
    let said = BOOT.iter().filter(|(text, _)| {
        let behind = body.strip_prefix(*text);
        behind.is_some_and(ends_a_message)
    });
    if let Some(&(text, boot)) = said.max_by_key(longest) {
        let ending = Ending {
            behind: body.len() - text.len(),
            may_go_on: false,
        };
        return Parsed::Whole(Message::Boot(boot), ending);
    }
    if let Some(rate) = body.strip_prefix(RATE.0) {
        return match counted(rate, RATE.1).map(u32::try_from) {
            Ok(Ok(per_second)) => Parsed::whole(Message::Boot(Boot::BusLockRate { per_second })),
            Ok(Err(_)) => Parsed::Garbled,
            Err(parsed) => parsed,
        };
    }
    let begins = |whole: &[u8]| whole.starts_with(body);
    let begins_boot = BOOT.iter().any(|(text, _)| begins(text)) || begins(RATE.0);
    let begins_trap =
        TRAPS.iter().any(|(exception, ..)| begins(exception)) || is_beginning_of_trap(body);
    if begins_boot || begins_trap {
        Parsed::CutShort
    } else {
        Parsed::Garbled
    }
}
