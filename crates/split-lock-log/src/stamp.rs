//! When a line says that it was written.

use std::time::Duration;

/// The time of a line, as far as it has one.
///
/// A line may have both kinds: syslog files often carry the kernel's own time, too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stamp {
    /// As it is written, without brackets: the wall clock's if there is one.
    pub text: Vec<u8>,
    /// How the wall clock's time is written, if it is.
    pub wall: Option<WallFormat>,
    /// Since the machine was started. Not known where the beginning of the number may be lost.
    pub uptime: Option<Duration>,
    /// Since the line before (`dmesg -d`, `dmesg -e`).
    pub since_previous: Option<Duration>,
}

impl Stamp {
    /// Whether the line says nothing about its time.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// How a wall clock's time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WallFormat {
    /// `Nov 11 03:49:25`, in any language and with any fraction: syslog, `journalctl`. No year, no zone.
    Syslog,
    /// `2026-11-22T14:53:09.123456+00:00`: RFC 5424, `journalctl -o short-iso`, `dmesg --time-format iso`.
    Iso,
    /// `Tue Aug 18 23:42:51 2026`, in any language: `dmesg -T`. No zone.
    Ctime,
    /// `Nov22 14:53`: the first line of a minute in `dmesg -e`.
    Minute,
    /// `Sun 2026-11-22 14:53:09 UTC`: `journalctl -o short-full`.
    Full,
    /// Seconds since 1970: `journalctl -o short-unix`.
    Unix,
    /// Microseconds since 1970: `journalctl -o json` and `-o export`.
    UnixMicros,
    /// Milliseconds since 1970: CloudWatch and other collectors.
    UnixMillis,
    /// Nanoseconds since 1970: Loki, OpenTelemetry.
    UnixNanos,
    /// `11-22 14:53:09.123`: Android. No year, no zone.
    MonthDay,
    /// `14:53:09`: terminal programs. No date, no zone.
    TimeOfDay,
}
