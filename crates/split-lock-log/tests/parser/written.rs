//! Writes events down as the kernel and the loggers do, in every style.

use std::time::Duration;

use proptest::prelude::*;
use split_lock_log::{
    Boot, Caller, Exception, Message, Reaction, RefusedWrite, Stamp, Suppressed, Trap, TrapKind,
    Wall,
};

/// An event, with what the log's styles need to know about it.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) uptime_us: u64,
    pub(crate) caller: Option<Caller>,
    pub(crate) message: Message,
}

/// Each way in which a log is written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    Bare,
    Dmesg,
    DmesgRaw,
    DmesgDecoded,
    DmesgCtime,
    DmesgCtimeFrench,
    DmesgDelta,
    DmesgMinute,
    DmesgSincePrevious,
    DmesgIso,
    DmesgColour,
    DmesgCtimeColour,
    Kmsg,
    JournalShort,
    JournalGerman,
    JournalJapanese,
    JournalPrecise,
    JournalIso,
    JournalFull,
    JournalUnix,
    JournalMonotonic,
    JournalColour,
    JournalJson,
    JournalJsonBytes,
    Syslog,
    SyslogWithUptime,
    SyslogQuoted,
    Rfc5424,
    Rsyslog,
}

impl Style {
    pub(crate) const ALL: [Style; 29] = [
        Style::Bare,
        Style::Dmesg,
        Style::DmesgRaw,
        Style::DmesgDecoded,
        Style::DmesgCtime,
        Style::DmesgCtimeFrench,
        Style::DmesgDelta,
        Style::DmesgMinute,
        Style::DmesgSincePrevious,
        Style::DmesgIso,
        Style::DmesgColour,
        Style::DmesgCtimeColour,
        Style::Kmsg,
        Style::JournalShort,
        Style::JournalGerman,
        Style::JournalJapanese,
        Style::JournalPrecise,
        Style::JournalIso,
        Style::JournalFull,
        Style::JournalUnix,
        Style::JournalMonotonic,
        Style::JournalColour,
        Style::JournalJson,
        Style::JournalJsonBytes,
        Style::Syslog,
        Style::SyslogWithUptime,
        Style::SyslogQuoted,
        Style::Rfc5424,
        Style::Rsyslog,
    ];

    /// What the line says about its time, and whether it names the machine `host`.
    pub(crate) fn stamp(self, event: &Event) -> (Stamp, bool) {
        let wall = |wall, text: &str| Stamp {
            text: text.into(),
            wall: Some(wall),
            ..Stamp::default()
        };
        let uptime = Duration::from_micros(event.uptime_us);
        let own = Stamp {
            text: seconds(event.uptime_us).into(),
            uptime: Some(uptime),
            ..Stamp::default()
        };
        let since = Some(Duration::from_micros(12));
        match self {
            Style::Bare => (Stamp::default(), false),
            Style::Dmesg | Style::DmesgRaw | Style::DmesgDecoded | Style::DmesgColour => {
                (own, false)
            }
            Style::DmesgCtime | Style::DmesgCtimeColour => {
                (wall(Wall::Ctime, "Tue Aug 18 23:42:51 2026"), false)
            }
            Style::DmesgCtimeFrench => (wall(Wall::Ctime, "mar. août 18 23:42:51 2026"), false),
            Style::DmesgDelta => (
                Stamp {
                    since_previous: since,
                    ..own
                },
                false,
            ),
            Style::DmesgMinute => (wall(Wall::Minute, "Nov22 14:53"), false),
            Style::DmesgSincePrevious => {
                let stamp = Stamp {
                    text: b"+0.000012".into(),
                    since_previous: since,
                    ..Stamp::default()
                };
                (stamp, false)
            }
            Style::DmesgIso => (wall(Wall::Iso, "2026-11-22T14:53:09,123456+00:00"), false),
            Style::Kmsg => {
                let text = event.uptime_us.to_string().into();
                (Stamp { text, ..own }, false)
            }
            Style::JournalShort | Style::JournalColour | Style::Syslog | Style::SyslogQuoted => {
                (wall(Wall::Syslog, "Nov  2 14:53:09"), true)
            }
            Style::JournalGerman => (wall(Wall::Syslog, "Mär 22 14:53:09"), true),
            Style::JournalJapanese => (wall(Wall::Syslog, "11月 22 14:53:09"), true),
            Style::JournalPrecise => (wall(Wall::Syslog, "Nov 22 14:53:09.123456"), true),
            Style::JournalIso => (wall(Wall::Iso, "2026-11-22T14:53:09+0100"), true),
            Style::JournalFull => (wall(Wall::Full, "Sun 2026-11-22 14:53:09 UTC"), true),
            Style::JournalUnix => (wall(Wall::Unix, "1763823189.123456"), true),
            Style::JournalMonotonic => (own, true),
            Style::JournalJson | Style::JournalJsonBytes => {
                let stamp = Stamp {
                    uptime: Some(uptime),
                    ..wall(Wall::UnixMicros, "1763823189123456")
                };
                (stamp, true)
            }
            Style::SyslogWithUptime => {
                let stamp = Stamp {
                    uptime: Some(uptime),
                    ..wall(Wall::Syslog, "Nov  2 14:53:09")
                };
                (stamp, true)
            }
            Style::Rfc5424 => (wall(Wall::Iso, "2026-11-22T14:53:09.123456Z"), true),
            Style::Rsyslog => (wall(Wall::Iso, "2026-11-22T14:53:09.123456+01:00"), true),
        }
    }

    /// Whether it shows who was running, where the kernel says so.
    pub(crate) fn has_caller(self) -> bool {
        !matches!(
            self,
            Style::Bare | Style::JournalJson | Style::JournalJsonBytes
        )
    }

    /// The line, without a newline.
    pub(crate) fn line(self, event: &Event) -> Vec<u8> {
        let (stamp, _) = self.stamp(event);
        let time = String::from_utf8(stamp.text).unwrap();
        let uptime = seconds(event.uptime_us);
        let caller = match event.caller {
            Some(Caller::Thread(id)) if self.has_caller() => format!("[{:>6}]", format!("T{id}")),
            Some(Caller::Cpu(id)) if self.has_caller() => format!("[{:>6}]", format!("C{id}")),
            _ => String::new(),
        };
        let text = text(&event.message);
        let head = match self {
            Style::Bare => String::new(),
            Style::Dmesg => format!("[{uptime:>12}]{caller} "),
            Style::DmesgRaw => format!("<4>[{uptime:>12}]{caller} "),
            Style::DmesgDecoded => format!("kern  :warn  : [{uptime:>12}]{caller} "),
            Style::DmesgCtime | Style::DmesgCtimeFrench | Style::DmesgMinute => {
                format!("[{time}] {caller} ")
            }
            Style::DmesgDelta => format!("[{uptime:>12} <    0.000012>] {caller} "),
            Style::DmesgSincePrevious => format!("[  {time}] {caller} "),
            Style::DmesgIso => format!("{time} {caller} "),
            Style::Kmsg => {
                let caller = match event.caller {
                    Some(Caller::Thread(id)) => format!(",caller=T{id}"),
                    Some(Caller::Cpu(id)) => format!(",caller=C{id}"),
                    None => String::new(),
                };
                let mut line = format!("4,1234,{time},-{caller};").into_bytes();
                line.extend(text.iter().flat_map(|&byte| match byte {
                    b' '..=b'~' if byte != b'\\' => vec![byte],
                    byte => format!("\\x{byte:02x}").into_bytes(),
                }));
                return line;
            }
            Style::DmesgColour => {
                return dmesg_in_colours(&format!("[{uptime:>12}]{caller} "), &text);
            }
            Style::DmesgCtimeColour => {
                return dmesg_in_colours(&format!("[{time}] {caller} "), &text);
            }
            Style::JournalColour => {
                let head = format!("{time} host kernel: \x1b[0;1;38;5;185m{caller} ");
                return [head.as_bytes(), &text, b"\x1b[0m"].concat();
            }
            Style::JournalJson | Style::JournalJsonBytes => return self.json(event, &text),
            Style::JournalMonotonic => format!("[{uptime:>12}] host kernel: {caller} "),
            Style::SyslogWithUptime => format!("{time} host kernel: [{uptime:>12}]{caller} "),
            Style::SyslogQuoted => format!("> > {time} host kernel: {caller} "),
            Style::Rfc5424 => format!("<4>1 {time} host kernel - - - {caller} "),
            _ => format!("{time} host kernel: {caller} "),
        };
        [head.into_bytes(), text].concat()
    }

    /// The journal writes bytes only where there is no text, and these always are.
    fn is_text(self, event: &Event) -> bool {
        let is_text = matches!(
            event.message,
            Message::Started { .. } | Message::RefusedWrite(_)
        );
        matches!(self, Style::JournalJson) || is_text
    }

    fn json(self, event: &Event, text: &[u8]) -> Vec<u8> {
        let message = match std::str::from_utf8(text) {
            Ok(text) if self.is_text(event) => serde_json::json!(text),
            _ => serde_json::json!(text),
        };
        let entry = serde_json::json!({
            "__REALTIME_TIMESTAMP": "1763823189123456",
            "_SOURCE_MONOTONIC_TIMESTAMP": event.uptime_us.to_string(),
            "_TRANSPORT": "kernel",
            "_HOSTNAME": "host",
            "MESSAGE": message,
            "PRIORITY": "4",
        });
        serde_json::to_vec(&entry).unwrap()
    }
}

/// The time, the subsystem (what ends in a colon) and the text each have a colour of their own.
fn dmesg_in_colours(head: &str, text: &[u8]) -> Vec<u8> {
    let subsystem = text.windows(2).position(|two| two == b": ");
    let (subsystem, text) = text.split_at(subsystem.map_or(0, |colon| colon + 2));
    let head = format!("\x1b[32m{head}\x1b[0m\x1b[33m");
    [
        head.as_bytes(),
        subsystem,
        b"\x1b[0m\x1b[1m",
        text,
        b"\x1b[0m",
    ]
    .concat()
}

fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

/// The words of the kernel.
pub(crate) fn text(message: &Message) -> Vec<u8> {
    let prefix = "x86/split lock detection: ";
    let text = match message {
        Message::Trap(trap) => {
            let (exception, what) = match trap.kind {
                TrapKind::SplitLock => ("#AC", "took a split_lock"),
                TrapKind::FatalSplitLock => ("#AC", "fatal split_lock"),
                TrapKind::BogusSplitLock => ("#AC", "bogus split_lock"),
                TrapKind::BusLock => ("#DB", "took a bus_lock"),
            };
            let before = format!("{prefix}{exception}: ");
            let after = format!("/{} {what} trap at address: {:#x}", trap.tid, trap.address);
            return [before.as_bytes(), &trap.comm, after.as_bytes()].concat();
        }
        Message::Boot(boot) => format!("{prefix}{}", boot_text(*boot)),
        Message::Suppressed(suppressed) => {
            let function = match suppressed.exception {
                Exception::AlignmentCheck => "split_lock_warn",
                Exception::Debug => "handle_bus_lock",
            };
            format!("{function}: {} callbacks suppressed", suppressed.count)
        }
        Message::RefusedWrite(refused) => format!(
            "unchecked MSR access error: WRMSR to 0x33 (tried to write {:#018x}) at rIP: {:#x} \
             (native_write_msr+0xf/0x30)",
            refused.value, refused.rip
        ),
        Message::Started { release } => {
            let release = String::from_utf8_lossy(release);
            format!("Linux version {release} (builder@host) (gcc 14) #1 SMP")
        }
        Message::Damaged { text, .. } => return text.clone(),
    };
    text.into_bytes()
}

fn boot_text(boot: Boot) -> String {
    let reaction = |reaction, warning: &str| match reaction {
        Reaction::Warn => warning.to_owned(),
        Reaction::Sigbus => "sending SIGBUS on".to_owned(),
    };
    match boot {
        Boot::Disabled => "disabled".into(),
        Boot::SplitLocks(r) => format!(
            "#AC: crashing the kernel on kernel split_locks and {} user-space split_locks",
            reaction(r, "warning on")
        ),
        Boot::SplitLocksBefore513(r) => {
            format!("{} user-space split_locks", reaction(r, "warning about"))
        }
        Boot::BusLocks {
            reaction: r,
            only_not_write_back,
        } => {
            let memory = if only_not_write_back {
                " from non-WB"
            } else {
                ""
            };
            format!(
                "#DB: {} user-space bus_locks{memory}",
                reaction(r, "warning on")
            )
        }
        Boot::BusLockRate { per_second } => {
            format!("#DB: setting system wide bus lock rate limit to {per_second}/sec")
        }
        Boot::MsrAccessFailed => "MSR access failed: Disabled".into(),
        Boot::NoOfflineHandler => "No splitlock CPU offline handler".into(),
    }
}

/// What the kernel allows in a thread's name, but for newlines, which the loggers treat each in its own way.
fn comm() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => b'a'..=b'z',
        2 => proptest::sample::select(&b"/: 0123456789#[]<>=\\"[..]),
        1 => (1..=u8::MAX).prop_filter("a newline", |&byte| byte != b'\n'),
    ];
    proptest::collection::vec(byte, 0..=15)
}

fn trap() -> impl Strategy<Value = Message> {
    let kinds = vec![
        TrapKind::SplitLock,
        TrapKind::FatalSplitLock,
        TrapKind::BogusSplitLock,
        TrapKind::BusLock,
    ];
    let parts = (
        proptest::sample::select(kinds),
        comm(),
        any::<u32>(),
        any::<u64>(),
    );
    parts.prop_map(|(kind, comm, tid, address)| {
        Message::Trap(Trap {
            kind,
            comm,
            tid,
            address,
        })
    })
}

fn boot() -> impl Strategy<Value = Message> {
    let reaction = || proptest::sample::select(&[Reaction::Warn, Reaction::Sigbus][..]);
    let boot = prop_oneof![
        Just(Boot::Disabled),
        reaction().prop_map(Boot::SplitLocks),
        reaction().prop_map(Boot::SplitLocksBefore513),
        reaction().prop_map(|reaction| Boot::BusLocks {
            reaction,
            only_not_write_back: reaction == Reaction::Sigbus,
        }),
        any::<u32>().prop_map(|per_second| Boot::BusLockRate { per_second }),
        Just(Boot::MsrAccessFailed),
        Just(Boot::NoOfflineHandler),
    ];
    boot.prop_map(Message::Boot)
}

fn message() -> impl Strategy<Value = Message> {
    let exceptions = vec![Exception::AlignmentCheck, Exception::Debug];
    let suppressed = (proptest::sample::select(exceptions), any::<u64>());
    prop_oneof![
        4 => trap(),
        1 => boot(),
        1 => suppressed.prop_map(|(exception, count)| {
            Message::Suppressed(Suppressed { exception, count })
        }),
        1 => any::<(u64, u64)>().prop_map(|(value, rip)| {
            Message::RefusedWrite(RefusedWrite { value, rip })
        }),
        1 => "[1-9]\\.[0-9]{1,2}(-[a-z0-9]{1,8})?".prop_map(|release| Message::Started {
            release: release.into_bytes(),
        }),
    ]
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    let caller = proptest::option::of(prop_oneof![
        any::<u32>().prop_map(Caller::Thread),
        any::<u32>().prop_map(Caller::Cpu),
    ]);
    let parts = (0..1u64 << 50, caller, message());
    parts.prop_map(|(uptime_us, caller, message)| Event {
        uptime_us,
        caller,
        message,
    })
}
