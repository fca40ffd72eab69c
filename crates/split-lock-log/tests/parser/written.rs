//! Events, and how the loggers write them: in every style.

use std::time::Duration;

use proptest::prelude::*;
use proptest::{collection, option, sample};
use serde_json::json;
use split_lock_log::{
    Boot, Caller, Exception, Message, Reaction, Record, RefusedWrite, Stamp, Suppressed, Trap,
    TrapKind, WallFormat,
};

/// An event, with what the log's styles need to know about it.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) uptime_us: u64,
    pub(crate) caller: Option<Caller>,
    pub(crate) message: Message,
}

/// A way in which a log is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    wall: Option<(WallFormat, &'static str)>,
    /// What stands before the message, with `{time}`, `{uptime}`, `{us}` and `{caller}` to be filled in.
    head: &'static str,
    form: Form,
}

/// How the message itself is written.
#[derive(Debug, Clone, Copy)]
enum Form {
    Plain,
    DmesgColours,
    JournalColour,
    KmsgEscapes,
    Json,
    /// The journal writes bytes where there is no text.
    JsonBytes,
}

const fn plain(head: &'static str) -> Style {
    Style {
        wall: None,
        head,
        form: Form::Plain,
    }
}

const fn wall(format: WallFormat, time: &'static str, head: &'static str) -> Style {
    Style {
        wall: Some((format, time)),
        head,
        form: Form::Plain,
    }
}

const JSON: Style = wall(
    WallFormat::UnixMicros,
    "1763823189123456",
    r#"{"__REALTIME_TIMESTAMP":"{time}","_SOURCE_MONOTONIC_TIMESTAMP":"{us}","_TRANSPORT":"kernel","_HOSTNAME":"host","MESSAGE":"#,
);

/// Each with the program that writes it.
#[rustfmt::skip]
pub(crate) const STYLES: [Style; 28] = {
    use WallFormat::{Ctime, Full, Iso, Minute, Syslog, Unix};
    [
        plain(""), // as people paste it
        plain("[{uptime}]{caller} "), // dmesg
        plain("<4>[{uptime}]{caller} "), // dmesg -r
        plain("kern  :warn  : [{uptime}]{caller} "), // dmesg -x
        wall(Ctime, "Tue Aug 18 23:42:51 2026", "[{time}] {caller} "), // dmesg -T
        wall(Ctime, "mar. août 18 23:42:51 2026", "[{time}] {caller} "), // dmesg -T, in French
        plain("[{uptime} <    0.000012>] {caller} "), // dmesg -d
        wall(Minute, "Nov22 14:53", "[{time}] {caller} "), // dmesg -e, the first of a minute
        plain("[  +0.000012] {caller} "), // dmesg -e, the others
        wall(Iso, "2026-11-22T14:53:09,123456+00:00", "{time} {caller} "), // dmesg --time-format iso
        Style { form: Form::DmesgColours, ..plain("[{uptime}]{caller} ") }, // dmesg -L
        Style { form: Form::DmesgColours, ..wall(Ctime, "Tue Aug 18 23:42:51 2026", "[{time}] {caller} ") }, // dmesg -LT
        Style { form: Form::KmsgEscapes, ..plain("4,1234,{us},-{caller};") }, // /dev/kmsg
        wall(Syslog, "Nov  2 14:53:09", "{time} host kernel: {caller} "), // journalctl, syslog
        wall(Syslog, "Mär 22 14:53:09", "{time} host kernel: {caller} "), // journalctl, in German
        wall(Syslog, "11月 22 14:53:09", "{time} host kernel: {caller} "), // journalctl, in Japanese
        wall(Syslog, "Nov 22 14:53:09.123456", "{time} host kernel: {caller} "), // journalctl -o short-precise
        wall(Iso, "2026-11-22T14:53:09+0100", "{time} host kernel: {caller} "), // journalctl -o short-iso
        wall(Full, "Sun 2026-11-22 14:53:09 UTC", "{time} host kernel: {caller} "), // journalctl -o short-full
        wall(Unix, "1763823189.123456", "{time} host kernel: {caller} "), // journalctl -o short-unix
        plain("[{uptime}] host kernel: {caller} "), // journalctl -o short-monotonic
        Style { // journalctl, on a terminal
            form: Form::JournalColour,
            ..wall(Syslog, "Nov  2 14:53:09", "{time} host kernel: \x1b[0;1;38;5;185m{caller} ")
        },
        Style { form: Form::Json, ..JSON }, // journalctl -o json
        Style { form: Form::JsonBytes, ..JSON }, // journalctl -o json, of what is no text
        wall(Syslog, "Nov  2 14:53:09", "{time} host kernel: [{uptime}]{caller} "), // syslog, with the uptime
        wall(Syslog, "Nov  2 14:53:09", "> > {time} host kernel: {caller} "), // syslog, quoted in a mail
        wall(Iso, "2026-11-22T14:53:09.123456Z", "<4>1 {time} host kernel - - - {caller} "), // RFC 5424
        wall(Iso, "2026-11-22T14:53:09.123456+01:00", "{time} host kernel: {caller} "), // rsyslog
    ]
};

impl Style {
    /// What is to be read of the event.
    pub(crate) fn record(self, event: &Event) -> Record {
        let has = |part| self.head.contains(part);
        let text = match self.wall {
            Some((_, time)) => time.to_owned(),
            None if has("{uptime}") => seconds(event.uptime_us),
            None if has("{us}") => event.uptime_us.to_string(),
            None if has("+0.000012") => "+0.000012".to_owned(),
            None => String::new(),
        };
        let uptime = Duration::from_micros(event.uptime_us);
        Record {
            line: 1,
            offset: 0,
            lines: 1,
            stamp: Stamp {
                text: text.into_bytes(),
                wall: self.wall.map(|(format, _)| format),
                uptime: (has("{uptime}") || has("{us}")).then_some(uptime),
                // Behind the uptime, or with a plus and instead of it.
                since_previous: has("0.000012").then_some(Duration::from_micros(12)),
            },
            host: (has("host kernel") || has("_HOSTNAME")).then(|| b"host".to_vec()),
            caller: event.caller.filter(|_| has("{caller}")),
            lacks_prefix: false,
            message: event.message.clone(),
        }
    }

    /// The line, without a newline.
    pub(crate) fn line(self, event: &Event) -> Vec<u8> {
        let caller = event
            .caller
            .map_or_else(String::new, |caller| match self.form {
                Form::KmsgEscapes => format!(",caller={caller}"),
                _ => format!("[{:>6}]", caller.to_string()),
            });
        let head = self
            .head
            .replace("{time}", self.wall.map_or("", |(_, time)| time))
            .replace("{uptime}", &format!("{:>12}", seconds(event.uptime_us)))
            .replace("{us}", &event.uptime_us.to_string())
            .replace("{caller}", &caller);
        let text = kernel_text(&event.message);
        let message = match self.form {
            Form::Plain => text,
            Form::DmesgColours => return dmesg_in_colours(&head, &text),
            Form::JournalColour => [&text[..], b"\x1b[0m"].concat(),
            Form::KmsgEscapes => {
                let escaped = text.iter().flat_map(|&byte| match byte {
                    b' '..=b'~' if byte != b'\\' => vec![byte],
                    byte => format!("\\x{byte:02x}").into_bytes(),
                });
                escaped.collect()
            }
            Form::Json | Form::JsonBytes => {
                let is_always_text = matches!(
                    event.message,
                    Message::Started { .. } | Message::RefusedWrite(_)
                );
                let message = match str::from_utf8(&text) {
                    Ok(text) if is_always_text || matches!(self.form, Form::Json) => json!(text),
                    _ => json!(text),
                };
                format!("{message}}}").into_bytes()
            }
        };
        [head.into_bytes(), message].concat()
    }
}

/// The kernel's words with its usual endings, which [`Message::to_kernel_text`] does not know.
pub(crate) fn kernel_text(message: &Message) -> Vec<u8> {
    let text = message.to_kernel_text().unwrap();
    let (end, usual): (&[u8], &[u8]) = match message {
        Message::RefusedWrite(_) => (b")", b"+0xf/0x30)"),
        Message::Started { .. } => (b"()", b"(builder@host) (gcc 14) #1 SMP"),
        _ => return text,
    };
    [text.strip_suffix(end).unwrap(), usual].concat()
}

/// The time, the subsystem (what ends in a colon) and the text each have a colour of their own.
fn dmesg_in_colours(head: &str, text: &[u8]) -> Vec<u8> {
    let subsystem = text.windows(2).position(|two| two == b": ");
    let (subsystem, text) = text.split_at(subsystem.map_or(0, |colon| colon + 2));
    let head = format!("\x1b[32m{head}\x1b[0m\x1b[33m").into_bytes();
    [&head, subsystem, b"\x1b[0m\x1b[1m", text, b"\x1b[0m"].concat()
}

fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

/// What the kernel allows in a thread's name, but for newlines, which the loggers treat each in its own way.
fn comm() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => b'a'..=b'z',
        2 => sample::select(&b"/: 0123456789#[]<>=\\"[..]),
        1 => (1..=u8::MAX).prop_filter("a newline", |&byte| byte != b'\n'),
    ];
    collection::vec(byte, 0..=15)
}

fn trap() -> impl Strategy<Value = Message> {
    let kinds = vec![
        TrapKind::SplitLock,
        TrapKind::FatalSplitLock,
        TrapKind::BogusSplitLock,
        TrapKind::BusLock,
    ];
    let parts = (sample::select(kinds), comm(), any::<u32>(), any::<u64>());
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
    let reaction = || sample::select(&[Reaction::Warn, Reaction::Sigbus][..]);
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
    let suppressed = (sample::select(exceptions), any::<u64>());
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
    let caller = option::of(prop_oneof![
        any::<u32>().prop_map(Caller::Thread),
        any::<u32>().prop_map(Caller::Cpu),
    ]);
    // Less than thirty years.
    let parts = (0..1u64 << 49, caller, message());
    parts.prop_map(|(uptime_us, caller, message)| Event {
        uptime_us,
        caller,
        message,
    })
}
