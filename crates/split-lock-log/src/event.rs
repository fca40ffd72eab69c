//! A record as flat fields, for tables and for other programs.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

use crate::{
    Boot, Caller, Damage, Exception, KernelOops, Message, Reaction, Record, Stamp, TrapKind,
    WallFormat,
};

/// A record as flat fields. What does not apply is `None`.
///
/// Serialized it is what `splitlock log` prints as JSON and CSV: the fields' names and order are an interface.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct Event<'a> {
    /// The log, as the caller calls it.
    pub file: &'a str,
    /// [`Record::line`]
    pub line: u64,
    /// [`Record::lines`]
    pub lines: u8,
    /// [`Record::offset`]
    pub offset: u64,
    /// Which message it is, in a word: [`Message::name`].
    pub event: &'static str,
    /// The time, as it is written.
    pub time: Option<Cow<'a, str>>,
    /// How the time is written.
    pub clock: Option<&'static str>,
    /// Seconds since the machine was started.
    pub uptime_s: Option<f64>,
    /// The machine that the line names.
    pub host: Option<Cow<'a, str>>,
    /// Who was running: `T123` a thread, `C1` a CPU.
    pub caller: Option<String>,
    /// `#AC` or `#DB`.
    pub exception: Option<String>,
    /// The thread's name; bytes that are no UTF-8 are replaced.
    pub comm: Option<Cow<'a, str>>,
    /// The thread's name in hexadecimal, where it is no UTF-8.
    pub comm_hex: Option<String>,
    /// The thread's id.
    pub tid: Option<u32>,
    /// [`Trap::address`](crate::Trap::address), in hexadecimal.
    pub address: Option<String>,
    /// How many messages the kernel left out.
    pub suppressed: Option<u64>,
    /// What is in no other field, in words.
    pub detail: Option<String>,
    /// Where in the kernel's code, or in a program's file: `skb_clone+0x159/0x1e0 [module]`.
    pub place: Option<String>,
    /// The code there, in hexadecimal: `<f0>` is the byte at the address.
    pub code: Option<Cow<'a, str>>,
    /// The registers that were printed: `RAX=0x1 RBX=0x2`.
    pub registers: Option<String>,
}

impl<'a> Event<'a> {
    /// The event of a record of this file.
    #[must_use]
    pub fn new(file: &'a str, record: &'a Record) -> Self {
        let stamp = &record.stamp;
        let text = |bytes: &'a [u8]| String::from_utf8_lossy(bytes);
        let mut event = Event {
            file,
            line: record.line,
            lines: record.lines,
            offset: record.offset,
            event: record.message.name(),
            time: (!stamp.is_empty()).then(|| text(&stamp.text)),
            clock: clock(stamp),
            uptime_s: stamp.uptime.map(|uptime| uptime.as_secs_f64()),
            host: record.host.as_deref().map(text),
            caller: record.caller.map(|caller| caller.to_string()),
            detail: detail(record),
            ..Event::default()
        };
        match &record.message {
            Message::Trap(trap) => {
                event.exception = Some(trap.kind.exception().to_string());
                event.set_thread(Some(&trap.comm), Some(trap.tid));
                event.address = Some(format!("{:#x}", trap.address));
            }
            Message::Suppressed(suppressed) => {
                event.exception = Some(suppressed.exception.to_string());
                event.suppressed = Some(suppressed.count);
            }
            Message::KernelSplitLock(oops) => {
                event.exception = Some(Exception::AlignmentCheck.to_string());
                event.set_thread(oops.comm.as_deref(), oops.tid);
                event.place = oops.rip.as_ref().map(ToString::to_string);
                event.code = oops.code.as_deref().map(text);
                event.registers = registers(oops);
            }
            Message::AlignmentSignal(signal) => {
                event.exception = Some(Exception::AlignmentCheck.to_string());
                event.set_thread(Some(&signal.comm), Some(signal.tid));
                event.address = Some(format!("{:#x}", signal.ip));
                event.place = signal.module.as_ref().map(|(module, offset)| {
                    format!("{}+{offset:#x}", String::from_utf8_lossy(module))
                });
            }
            Message::Damaged { text: line, .. } => {
                let (comm, tid) = crate::message::who_in(line).unzip();
                event.set_thread(comm, tid);
            }
            Message::Boot(_) | Message::RefusedWrite(_) | Message::Started { .. } => {}
        }
        event
    }

    fn set_thread(&mut self, comm: Option<&'a [u8]>, tid: Option<u32>) {
        self.comm = comm.map(String::from_utf8_lossy);
        self.comm_hex = comm.and_then(hex_unless_text);
        self.tid = tid;
    }
}

fn clock(stamp: &Stamp) -> Option<&'static str> {
    let wall = stamp.wall.map(|wall| match wall {
        WallFormat::Syslog => "syslog",
        WallFormat::Iso => "iso",
        WallFormat::Ctime => "ctime",
        WallFormat::Minute => "minute",
        WallFormat::Full => "full",
        WallFormat::Unix => "unix",
        WallFormat::UnixMicros => "unix_us",
        WallFormat::UnixMillis => "unix_ms",
        WallFormat::UnixNanos => "unix_ns",
        WallFormat::MonthDay => "month_day",
        WallFormat::TimeOfDay => "time_of_day",
    });
    let uptime = stamp.uptime.map(|_| "uptime");
    let since = stamp.since_previous.map(|_| "since_previous");
    wall.or(uptime).or(since)
}

fn hex_unless_text(bytes: &[u8]) -> Option<String> {
    let hex = || bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    std::str::from_utf8(bytes).is_err().then(hex)
}

fn registers(oops: &KernelOops) -> Option<String> {
    let registers = oops.registers.iter();
    let registers = registers.map(|(name, value)| format!("{name}={value:#x}"));
    (!oops.registers.is_empty()).then(|| registers.collect::<Vec<_>>().join(" "))
}

fn detail(record: &Record) -> Option<String> {
    let text = |bytes| String::from_utf8_lossy(bytes);
    Some(match &record.message {
        Message::Trap(_) if record.lacks_prefix => {
            "the kernel's prefix (x86/split lock detection) is missing".into()
        }
        Message::Trap(_) => return None,
        Message::KernelSplitLock(oops) => {
            let place = oops.rip.as_ref().map_or(String::new(), |rip| format!(" in {rip}"));
            let rest = if oops.is_complete { "" } else { "; the end of its report is missing" };
            format!("the kernel itself split a lock{place}{rest}")
        }
        Message::AlignmentSignal(_) => {
            "SIGBUS for a misaligned access: a split lock in mode fatal, or a program that has set EFLAGS.AC".into()
        }
        Message::Boot(boot) => boot.to_string(),
        Message::Suppressed(suppressed) => match suppressed.exception {
            Exception::AlignmentCheck => "split_lock messages were left out".into(),
            Exception::Debug => "bus_lock messages were left out".into(),
        },
        Message::RefusedWrite(refused) => format!(
            "the kernel may not switch detection on or off: writing {:#x} to MSR_TEST_CTRL was refused",
            refused.value
        ),
        Message::Started { release } => format!("Linux {}", text(release)),
        Message::Damaged {
            damage,
            text: damaged,
        } => format!("{damage}: {}", text(damaged)),
    })
}

impl Message {
    /// Which message it is, in a word: `split_lock`, `boot`, `suppressed` and so on.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Message::Trap(trap) => trap.kind.name(),
            Message::Boot(_) => "boot",
            Message::Suppressed(_) => "suppressed",
            Message::RefusedWrite(_) => "refused_write",
            Message::Started { .. } => "started",
            Message::KernelSplitLock(_) => "kernel_split_lock",
            Message::AlignmentSignal(_) => "alignment_signal",
            Message::Damaged { .. } => "damaged",
        }
    }
}

impl TrapKind {
    /// The same in a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            TrapKind::SplitLock => "split_lock",
            TrapKind::FatalSplitLock => "fatal_split_lock",
            TrapKind::BogusSplitLock => "bogus_split_lock",
            TrapKind::BusLock => "bus_lock",
        }
    }
}

/// `#AC` or `#DB`
impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Exception::AlignmentCheck => "#AC",
            Exception::Debug => "#DB",
        })
    }
}

/// `T123` or `C1`, as the kernel writes it.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caller::Thread(id) => write!(f, "T{id}"),
            Caller::Cpu(id) => write!(f, "C{id}"),
        }
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Boot::Disabled => write!(f, "detection is disabled"),
            Boot::SplitLocks(reaction) => write!(f, "#AC: {reaction} for split locks"),
            Boot::SplitLocksBefore513(reaction) => {
                write!(f, "#AC: {reaction} for split locks (5.7 to 5.12)")
            }
            Boot::BusLocks {
                reaction,
                only_not_write_back: false,
            } => write!(f, "#DB: {reaction} for bus locks"),
            Boot::BusLocks { reaction, .. } => write!(
                f,
                "#DB: {reaction} for bus locks to memory that is not write-back"
            ),
            Boot::BusLockRate { per_second: rate } => {
                write!(f, "#DB: user space shares {rate} bus locks per second")
            }
            Boot::MsrAccessFailed => write!(f, "detection is disabled: MSR access failed"),
            Boot::NoOfflineHandler => write!(f, "no handler for CPUs that go offline"),
        }
    }
}

impl fmt::Display for Reaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reaction::Warn => "a warning",
            Reaction::Sigbus => "SIGBUS",
        })
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Damage::CutShort => "cut short",
            Damage::AddressCutShort => "the address may be cut short",
            Damage::NoBeginning => "no beginning",
            Damage::Garbled => "garbled",
            Damage::LineTooLong => "line too long",
        })
    }
}
