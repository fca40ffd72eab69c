//! What records are called.

use split_lock_log::{Boot, Caller, Damage, Exception, Message, Reaction, TrapKind, Wall};

/// The kind of an event: an interface, for those who read JSON or CSV.
pub(super) fn event(message: &Message) -> &'static str {
    match message {
        Message::Trap(trap) => match trap.kind {
            TrapKind::SplitLock => "split_lock",
            TrapKind::FatalSplitLock => "fatal_split_lock",
            TrapKind::BogusSplitLock => "bogus_split_lock",
            TrapKind::BusLock => "bus_lock",
        },
        Message::Boot(_) => "boot",
        Message::Suppressed(_) => "suppressed",
        Message::RefusedWrite(_) => "refused_write",
        Message::Started { .. } => "started",
        Message::Damaged { .. } => "damaged",
    }
}

pub(super) fn exception(message: &Message) -> Option<&'static str> {
    let exception = match message {
        Message::Trap(trap) => trap.kind.exception(),
        Message::Suppressed(suppressed) => suppressed.exception,
        Message::Boot(_)
        | Message::RefusedWrite(_)
        | Message::Started { .. }
        | Message::Damaged { .. } => return None,
    };
    Some(match exception {
        Exception::AlignmentCheck => "#AC",
        Exception::Debug => "#DB",
    })
}

/// How the time is written.
pub(super) fn clock(wall: Wall) -> &'static str {
    match wall {
        Wall::Syslog => "syslog",
        Wall::Iso => "iso",
        Wall::Ctime => "ctime",
        Wall::Minute => "minute",
        Wall::Full => "full",
        Wall::Unix => "unix",
        Wall::UnixMicros => "unix_us",
    }
}

pub(super) fn caller(caller: Caller) -> String {
    match caller {
        Caller::Thread(id) => format!("T{id}"),
        Caller::Cpu(id) => format!("C{id}"),
    }
}

/// What is not in the other columns.
pub(super) fn detail(message: &Message) -> Option<String> {
    Some(match message {
        Message::Trap(_) => return None,
        Message::Boot(boot) => of_boot(*boot),
        Message::Suppressed(suppressed) => match suppressed.exception {
            Exception::AlignmentCheck => "split_lock messages were left out".into(),
            Exception::Debug => "bus_lock messages were left out".into(),
        },
        Message::RefusedWrite(refused) => format!(
            "the kernel may not switch detection on or off: writing {:#x} to MSR_TEST_CTRL was refused",
            refused.value
        ),
        Message::Started { release } => format!("Linux {}", String::from_utf8_lossy(release)),
        Message::Damaged { damage, text } => {
            format!("{}: {}", of_damage(*damage), String::from_utf8_lossy(text))
        }
    })
}

fn of_boot(boot: Boot) -> String {
    let of_reaction = |reaction| match reaction {
        Reaction::Warn => "a warning",
        Reaction::Sigbus => "SIGBUS",
    };
    match boot {
        Boot::Disabled => "detection is disabled".into(),
        Boot::SplitLocks(reaction) => format!("#AC: {} for split locks", of_reaction(reaction)),
        Boot::SplitLocksBefore513(reaction) => {
            format!(
                "#AC: {} for split locks (5.7 to 5.12)",
                of_reaction(reaction)
            )
        }
        Boot::BusLocks {
            reaction,
            only_not_write_back,
        } => {
            let memory = if only_not_write_back {
                " to memory that is not write-back"
            } else {
                ""
            };
            format!("#DB: {} for bus locks{memory}", of_reaction(reaction))
        }
        Boot::BusLockRate { per_second } => {
            format!("#DB: user space shares {per_second} bus locks per second")
        }
        Boot::MsrAccessFailed => "detection is disabled: MSR access failed".into(),
        Boot::NoOfflineHandler => "no handler for CPUs that go offline".into(),
    }
}

fn of_damage(damage: Damage) -> &'static str {
    match damage {
        Damage::CutShort => "cut short",
        Damage::NoBeginning => "no beginning",
        Damage::Garbled => "garbled",
        Damage::LineTooLong => "line too long",
    }
}
