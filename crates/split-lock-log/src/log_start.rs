//! Whether a log begins where the kernel does.

use std::time::Duration;

use crate::colour::without_colours;
use crate::header::{Header, Origin};
use crate::journal::Entry;
use crate::json::JsonLine;
use crate::message::LINUX_VERSION;

/// Whether a log begins where the kernel does: if so, a message of the boot that is not there was not
/// printed; if not, it may have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogStart {
    /// With `Linux version …`, or at time zero.
    Boot,
    /// Later: what came before is not in it.
    Later,
    /// Its lines do not say.
    Unclear,
}

/// The first lines have no later time than this.
const FIRST_MOMENT: Duration = Duration::from_millis(1);

/// So many lines of programs may come before the kernel's first.
const MOST_LINES: u32 = 1_000;

/// Looks at the first lines until one of them decides.
#[derive(Debug, Default)]
pub(crate) struct LogStartDetector {
    decided: Option<LogStart>,
    lines: u32,
    is_quoted_printable: bool,
}

impl LogStartDetector {
    pub(crate) fn has_decided(&self) -> bool {
        self.decided.is_some() || self.lines >= MOST_LINES
    }

    /// Whether a mail's header has said that lines may be broken anywhere.
    pub(crate) fn is_quoted_printable(&self) -> bool {
        self.is_quoted_printable
    }

    pub(crate) fn result(&self) -> LogStart {
        self.decided.unwrap_or(LogStart::Unclear)
    }

    pub(crate) fn add_line(&mut self, line: &[u8]) {
        if self.has_decided() {
            return;
        }
        if let Some(entry) = JsonLine::any_entry(line) {
            return self.add_entry(&entry);
        }
        self.lines += 1;
        if let Some((name, value)) = mail_header(line) {
            self.is_quoted_printable |= name.eq_ignore_ascii_case(b"content-transfer-encoding")
                && value.eq_ignore_ascii_case(b"quoted-printable");
            return;
        }
        if !line.starts_with(b"-- ") && !line.trim_ascii().is_empty() {
            let line = without_colours(line);
            let (header, message) = Header::read(&line);
            self.decide(header.origin, header.stamp.uptime, message);
        }
    }

    /// The same for an entry that is not in one line.
    pub(crate) fn add_entry(&mut self, entry: &Entry) {
        if self.has_decided() {
            return;
        }
        self.lines += 1;
        self.decide(entry.origin, entry.stamp.uptime, entry.message.trim_ascii());
    }

    fn decide(&mut self, origin: Origin, uptime: Option<Duration>, message: &[u8]) {
        self.decided = match (origin, uptime) {
            (Origin::Program, _) => None,
            _ if message.starts_with(LINUX_VERSION) => Some(LogStart::Boot),
            (_, Some(uptime)) if uptime < FIRST_MOMENT => Some(LogStart::Boot),
            (_, Some(_)) | (Origin::Kernel, None) => Some(LogStart::Later),
            (Origin::Unknown, None) => Some(LogStart::Unclear),
        };
    }
}

/// `Subject: Re: boot log`: the name, and what it says.
fn mail_header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_name = name.first().is_some_and(u8::is_ascii_uppercase)
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphabetic() || *byte == b'-');
    (is_name && value.starts_with(b" ")).then(|| (name, value.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(log: &str) -> LogStart {
        let mut detector = LogStartDetector::default();
        for line in log.lines() {
            detector.add_line(line.as_bytes());
        }
        detector.result()
    }

    #[test]
    fn the_first_line_of_the_kernel_decides() {
        for (log, expected) in [
            (
                "[    0.000000] Linux version 6.6.1 (me@here)",
                LogStart::Boot,
            ),
            ("[    0.000000] microcode: updated early", LogStart::Boot),
            (
                "\n-- Boot 1234 --\nJun 1 00:00:00 h kernel: Linux version 6.6.1 (x)",
                LogStart::Boot,
            ),
            (
                "Jun 1 00:00:00 h cron[1]: x\nJun 1 00:00:00 h kernel: Linux version 6",
                LogStart::Boot,
            ),
            ("6,0,0,-;Linux version 6.6.1 (x)", LogStart::Boot),
            (
                r#"{"_TRANSPORT":"kernel","MESSAGE":"Linux version 6.6.1 (x)"}"#,
                LogStart::Boot,
            ),
            (
                "\x1b[32m[    0.000000] \x1b[0mLinux version 6",
                LogStart::Boot,
            ),
            (
                "[   17.123456] usb 1-1: new\n[    0.000000] Linux version 6",
                LogStart::Later,
            ),
            ("Jun 1 00:00:00 h kernel: usb 1-1: new", LogStart::Later),
            (
                "Subject: my log\n\n[    0.000000] Linux version 6.6.1 (x)",
                LogStart::Boot,
            ),
            ("x86/split lock detection: disabled", LogStart::Unclear),
            ("", LogStart::Unclear),
        ] {
            assert_eq!(of(log), expected, "{log}");
        }
    }
}
