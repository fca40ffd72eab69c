//! What stands before a message: who wrote down when whose message it is.
//!
//! Every logger has a form of its own, and people cut and paste them. So this reads, from the left, one [small
//! form](forms) after the other, as long as one of them fits. What is left over is the message, or unknown.

use crate::{Caller, Stamp, WallFormat};

mod forms;
mod tags;
mod time;

use forms::FORMS;
pub(crate) use forms::unquoted;
pub(crate) use time::whole_wall;
use time::{ctime, is_minute, seconds, split_delta};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The line does not say.
    #[default]
    Unknown,
    Kernel,
    /// A program's, which may well write about the kernel.
    Program,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) stamp: Stamp,
    pub(crate) host: Option<Vec<u8>>,
    pub(crate) caller: Option<Caller>,
    pub(crate) origin: Origin,
    /// The message follows as `/dev/kmsg` writes it, with `\x0a` for a newline.
    pub(crate) is_escaped: bool,
    /// The words that the kernel begins its message with are missing.
    pub(crate) lacks_prefix: bool,
    /// The program's name has been read, behind which there is only what the program itself writes.
    pub(crate) is_tagged: bool,
}

/// More forms in front of one message are no header.
const MOST_FORMS: usize = 64;

impl Header {
    /// Reads it from the beginning of a line (or from a part of a line that has it), and returns it
    /// with what follows.
    pub(crate) fn read(line: &[u8]) -> (Self, &[u8]) {
        let mut header = Header::default();
        let mut rest = line;
        for _ in 0..MOST_FORMS {
            let mut forms = FORMS.iter();
            let Some(after) = forms.find_map(|form| (form.read)(&mut header, rest)) else {
                break;
            };
            rest = after;
            if header.is_escaped {
                return (header, rest);
            }
            if header.is_tagged {
                rest = header.brackets(rest);
                break;
            }
        }
        (header, rest.trim_ascii_start())
    }

    /// Reads what stands before a message, all of it: whatever is there, the kernel's own time next to the message
    /// is its time.
    pub(crate) fn read_before_message(text: &[u8]) -> (Self, &[u8]) {
        let (mut header, rest) = Self::read(text);
        if header.origin == Origin::Unknown
            && header.stamp.uptime.is_none()
            && rest.trim_ascii_end().ends_with(b"]")
            && let Some(start) = memchr::memchr_iter(b'[', rest).find(|&at| {
                let mut header = Header::default();
                header.brackets(&rest[at..]).trim_ascii().is_empty()
            })
        {
            header.brackets(&rest[start..]);
            return (header, &rest[..start]);
        }
        (header, rest)
    }

    /// Whether nothing that has a meaning was read so far.
    fn is_unread(&self) -> bool {
        *self == Header::default()
    }

    fn set_origin(&mut self, is_kernel: bool) {
        self.origin = match is_kernel {
            true => Origin::Kernel,
            false => Origin::Program,
        };
    }

    /// `[  180.442663][T20263]` and everything else that dmesg puts into brackets.
    fn brackets<'a>(&mut self, mut text: &'a [u8]) -> &'a [u8] {
        while let Some(rest) = self.in_brackets(text) {
            text = rest;
        }
        text
    }

    fn in_brackets<'a>(&mut self, text: &'a [u8]) -> Option<&'a [u8]> {
        let inside = text.trim_ascii_start().strip_prefix(b"[")?;
        let end = memchr::memchr(b']', inside)?;
        self.bracket(inside[..end].trim_ascii())?;
        Some(&inside[end + 1..])
    }

    fn bracket(&mut self, inside: &[u8]) -> Option<()> {
        let (time, delta) = split_delta(inside);
        if let Some(since) = delta {
            self.stamp.since_previous = Some(since);
            if time.is_empty() {
                self.stamp.text = inside[1..inside.len() - 1].trim_ascii().to_vec();
                return Some(());
            }
        }
        // No machine is up for thirty years: larger ones count since 1970.
        const LONGEST_SECS: u64 = 1_000_000_000;
        if let Some(uptime) = seconds(time).filter(|uptime| uptime.as_secs() < LONGEST_SECS) {
            self.stamp.uptime = Some(uptime);
            if self.stamp.wall.is_none() {
                self.stamp.text = time.to_vec();
            }
        } else if let Some(since) = time.strip_prefix(b"+").and_then(seconds) {
            self.stamp.since_previous = Some(since);
            self.stamp.text = time.to_vec();
        } else if let Some(caller) = forms::caller(time) {
            self.caller = Some(caller);
        } else if let Some(wall) = whole_wall(time) {
            self.put_wall(wall, time);
        } else if is_minute(time) {
            self.put_wall(WallFormat::Minute, time);
        } else {
            return None;
        }
        Some(())
    }

    fn put_wall(&mut self, wall: WallFormat, text: &[u8]) {
        self.stamp.wall = Some(wall);
        self.stamp.text = text.to_vec();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[track_caller]
    fn read(head: &str) -> Header {
        let line = format!("{head}x86/split");
        let (header, rest) = Header::read(line.as_bytes());
        assert_eq!(rest, b"x86/split", "{head}");
        header
    }

    #[test]
    fn the_kernels_own_time() {
        for head in [
            "[  688.792264] ",
            "<4>[  688.792264] ",
            "kern  :warn  : [  688.792264] ",
            "> > [  688.792264] ",
            "[  688.792264 <    0.000012>] ",
            "[  688.792264][T20263] ",
            "[  688.792264] [    C1] ",
            "[  688.792264] kernel: ",
            "[  688.792264] diamond kernel: ",
            "4,1234,688792264,-,caller=T12;",
            "4,1234,688792264,c;",
        ] {
            let header = read(head);
            assert_eq!(
                header.stamp.uptime,
                Some(Duration::from_micros(688_792_264)),
                "{head}"
            );
            assert_eq!(header.stamp.wall, None, "{head}");
        }
        assert_eq!(read("[1.5][T20263] ").caller, Some(Caller::Thread(20263)));
        assert_eq!(read("[1.5][    C1] ").caller, Some(Caller::Cpu(1)));
        assert_eq!(read("4,1,2,-,caller=C3;").caller, Some(Caller::Cpu(3)));
        let delta = read("[    1.500000 <    0.000012>] ").stamp.since_previous;
        assert_eq!(delta, Some(Duration::from_micros(12)));
        let delta = read("[  +0.000012] ").stamp;
        assert_eq!(
            (delta.uptime, delta.since_previous),
            (None, Some(Duration::from_micros(12)))
        );
    }

    #[test]
    fn the_time_on_the_wall() {
        use WallFormat::{Ctime, Full, Iso, Minute, Syslog, Unix};
        for (head, wall, text) in [
            ("Nov 11 03:49:25 ___ kernel: ", Syslog, "Nov 11 03:49:25"),
            ("# Jun  7 04:23:58 k8s kernel: ", Syslog, "Jun  7 04:23:58"),
            ("juil. 30 01:40:01 c kernel: ", Syslog, "juil. 30 01:40:01"),
            ("11月 22 14:53:09 c kernel: ", Syslog, "11月 22 14:53:09"),
            (
                "Nov 22 14:53:09.123456 c kernel: ",
                Syslog,
                "Nov 22 14:53:09.123456",
            ),
            ("<4>Nov 22 14:53:09 c kernel: ", Syslog, "Nov 22 14:53:09"),
            (
                "[Tue Aug 18 23:42:51 2026] ",
                Ctime,
                "Tue Aug 18 23:42:51 2026",
            ),
            (
                "[mar. août 18 23:42:51 2026] ",
                Ctime,
                "mar. août 18 23:42:51 2026",
            ),
            (
                "[火  8月 18 23:42:51 2026] ",
                Ctime,
                "火  8月 18 23:42:51 2026",
            ),
            (
                "Fri Feb 28 09:30:05 2025] ",
                Ctime,
                "Fri Feb 28 09:30:05 2025",
            ),
            ("[Nov22 14:53] ", Minute, "Nov22 14:53"),
            ("[Nov 2 14:53] ", Minute, "Nov 2 14:53"),
            (
                "2026-11-22T14:53:09,123456+00:00 ",
                Iso,
                "2026-11-22T14:53:09,123456+00:00",
            ),
            (
                "2026-11-22T14:53:09+0000 c kernel: ",
                Iso,
                "2026-11-22T14:53:09+0000",
            ),
            (
                "<4>1 2026-11-22T14:53:09.1Z c kernel - - - ",
                Iso,
                "2026-11-22T14:53:09.1Z",
            ),
            (
                "2026-11-22T14:53:09Z c kernel - - [x@1 a=\"b\"] ",
                Iso,
                "2026-11-22T14:53:09Z",
            ),
            (
                "Sun 2026-11-22 14:53:09 UTC c kernel: ",
                Full,
                "Sun 2026-11-22 14:53:09 UTC",
            ),
            ("1763823189.123456 c kernel: ", Unix, "1763823189.123456"),
        ] {
            let header = read(head);
            let found = String::from_utf8_lossy(&header.stamp.text).into_owned();
            assert_eq!(
                (header.stamp.wall, &found[..]),
                (Some(wall), text),
                "{head}"
            );
        }
    }

    #[test]
    fn both_times() {
        let header = read("Mar 26 11:13:52 calypso kernel: [    2.500000] [T7] ");
        assert_eq!(header.stamp.text, b"Mar 26 11:13:52");
        assert_eq!(header.stamp.uptime, Some(Duration::from_millis(2500)));
        assert_eq!(header.host.as_deref(), Some(&b"calypso"[..]));
        assert_eq!(header.caller, Some(Caller::Thread(7)));
        assert_eq!(header.origin, Origin::Kernel);
    }

    #[test]
    fn a_number_that_may_have_lost_digits_is_no_time() {
        let stamp = read("0.000000] kernel: ").stamp;
        assert_eq!((stamp.uptime, &stamp.text[..]), (None, &b"0.000000"[..]));
    }

    #[test]
    fn programs_are_not_the_kernel() {
        for head in [
            "Nov 11 03:49:25 host sudo[12]: ",
            "Nov 11 03:49:25 sudo: ",
            "[    1.500000] systemd[1]: ",
            "<12>[    1.500000] ",
            "user  :warn  : [    1.500000] ",
            "12,5,1500000,-;",
            "<12>1 2026-11-22T14:53:09Z host me 7 - - ",
        ] {
            assert_eq!(read(head).origin, Origin::Program, "{head}");
        }
        assert_eq!(read("[    1.500000] ").origin, Origin::Unknown);
        assert_eq!(read("").origin, Origin::Unknown);
    }
}
