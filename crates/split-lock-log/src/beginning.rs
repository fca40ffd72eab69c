//! Whether a log begins where the kernel does.

use std::time::Duration;

use crate::colour::without_colours;
use crate::header::{Header, Origin};
use crate::journal::Entry;
use crate::line::LINUX_VERSION;

/// Whether a log begins where the kernel does: if so, a message of the boot that is not there was not
/// printed; if not, it may have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Beginning {
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
pub(crate) struct Judge {
    verdict: Option<Beginning>,
    lines: u32,
}

impl Judge {
    pub(crate) fn has_decided(&self) -> bool {
        self.verdict.is_some()
    }

    pub(crate) fn verdict(&self) -> Beginning {
        self.verdict.unwrap_or(Beginning::Unclear)
    }

    pub(crate) fn look(&mut self, line: &[u8]) {
        let verdict = match Entry::read(line) {
            Some(entry) => of_entry(&entry),
            None if line.starts_with(b"-- ") || line.trim_ascii().is_empty() => None,
            None => {
                let line = without_colours(line);
                let (header, rest) = Header::read(&line);
                verdict(header.origin, header.stamp.uptime, rest)
            }
        };
        self.decide(verdict);
    }

    /// The same for an entry that is not in one line.
    pub(crate) fn look_at(&mut self, entry: &Entry) {
        if !self.has_decided() {
            self.decide(of_entry(entry));
        }
    }

    fn decide(&mut self, verdict: Option<Beginning>) {
        self.verdict = verdict;
        self.lines += 1;
        if self.lines == MOST_LINES {
            self.verdict.get_or_insert(Beginning::Unclear);
        }
    }
}

fn of_entry(entry: &Entry) -> Option<Beginning> {
    let message = entry.message.trim_ascii();
    verdict(entry.origin, entry.stamp.uptime, message)
}

fn verdict(origin: Origin, uptime: Option<Duration>, message: &[u8]) -> Option<Beginning> {
    let is_first = message.starts_with(LINUX_VERSION);
    match (origin, uptime) {
        (Origin::Program, _) => None,
        _ if is_first => Some(Beginning::Boot),
        (_, Some(uptime)) if uptime < FIRST_MOMENT => Some(Beginning::Boot),
        (_, Some(_)) | (Origin::Kernel, None) => Some(Beginning::Later),
        (Origin::Unsaid, None) => Some(Beginning::Unclear),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(log: &str) -> Beginning {
        let mut judge = Judge::default();
        for line in log.lines() {
            if !judge.has_decided() {
                judge.look(line.as_bytes());
            }
        }
        judge.verdict()
    }

    #[test]
    fn the_first_line_of_the_kernel_decides() {
        for (log, expected) in [
            (
                "[    0.000000] Linux version 6.6.1 (me@here)",
                Beginning::Boot,
            ),
            ("[    0.000000] microcode: updated early", Beginning::Boot),
            (
                "\n-- Boot 1234 --\nJun 1 00:00:00 h kernel: Linux version 6.6.1 (x)",
                Beginning::Boot,
            ),
            (
                "Jun 1 00:00:00 h cron[1]: x\nJun 1 00:00:00 h kernel: Linux version 6",
                Beginning::Boot,
            ),
            ("6,0,0,-;Linux version 6.6.1 (x)", Beginning::Boot),
            (
                r#"{"_TRANSPORT":"kernel","MESSAGE":"Linux version 6.6.1 (x)"}"#,
                Beginning::Boot,
            ),
            (
                "\x1b[32m[    0.000000] \x1b[0mLinux version 6",
                Beginning::Boot,
            ),
            (
                "[   17.123456] usb 1-1: new\n[    0.000000] Linux version 6",
                Beginning::Later,
            ),
            ("Jun 1 00:00:00 h kernel: usb 1-1: new", Beginning::Later),
            ("x86/split lock detection: disabled", Beginning::Unclear),
            ("", Beginning::Unclear),
        ] {
            assert_eq!(of(log), expected, "{log}");
        }
    }
}
