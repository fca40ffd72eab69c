//! What stands before a message: who wrote down when whose message it is.
//!
//! Every logger has a form of its own, and people cut and paste them. So this reads, from the left, the
//! parts that it knows: quotation marks, `/dev/kmsg`'s fields, a priority, a time, a host and a tag,
//! the kernel's own time and caller in brackets. What is left over is the message, or unknown.

use std::time::Duration;

use crate::message::decimal;
use crate::{Caller, Stamp, WallFormat};

/// Whose message it is, by the line itself.
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
}

/// Kernel messages are of facility 0.
const FACILITY_KERNEL: u64 = 0;

impl Header {
    /// Reads it from the beginning of a line (or from a part of a line that has it), and returns it
    /// with what follows.
    pub(crate) fn read(line: &[u8]) -> (Self, &[u8]) {
        let mut header = Header::default();
        let mut rest = unquoted(line);
        if let Some(after) = header.kmsg(rest) {
            return (header, after);
        }
        rest = header.priority(rest);
        if let Some(after) = header.decoded_priority(rest) {
            rest = after;
        }
        rest = header.lost_bracket(rest).unwrap_or(rest);
        rest = header.brackets(rest);
        rest = header.wall(rest);
        rest = header.tag(rest);
        rest = header.brackets(rest);
        (header, rest.trim_ascii_start())
    }

    /// `6,1234,5678901,-,caller=T12;`
    fn kmsg<'a>(&mut self, text: &'a [u8]) -> Option<&'a [u8]> {
        let end = memchr::memchr(b';', text)?;
        let mut fields = text[..end].split(|&byte| byte == b',');
        let priority = decimal(fields.next()?)?;
        let _sequence = decimal(fields.next()?)?;
        let micros = fields.next()?;
        self.stamp.uptime = Some(Duration::from_micros(decimal(micros)?));
        self.stamp.text = micros.to_vec();
        let mut callers = fields.filter_map(|field| field.strip_prefix(b"caller="));
        self.caller = callers.find_map(caller);
        self.set_origin(priority >> 3 == FACILITY_KERNEL);
        self.is_escaped = true;
        Some(&text[end + 1..])
    }

    fn set_origin(&mut self, is_kernel: bool) {
        self.origin = if is_kernel {
            Origin::Kernel
        } else {
            Origin::Program
        };
    }

    /// `<4>`, and the version that follows it in RFC 5424.
    fn priority<'a>(&mut self, text: &'a [u8]) -> &'a [u8] {
        let inside = text.strip_prefix(b"<").and_then(|text| {
            let end = memchr::memchr(b'>', text).filter(|&end| end <= 3)?;
            Some((decimal(&text[..end])?, &text[end + 1..]))
        });
        let Some((priority, rest)) = inside else {
            return text;
        };
        self.set_origin(priority >> 3 == FACILITY_KERNEL);
        rest.strip_prefix(b"1 ").unwrap_or(rest)
    }

    /// `kern  :warn  : ` (`dmesg -x`)
    fn decoded_priority<'a>(&mut self, text: &'a [u8]) -> Option<&'a [u8]> {
        let (facility, rest) = name_and_colon(text)?;
        let (level, rest) = name_and_colon(rest)?;
        let levels: [&[u8]; 8] = [
            b"emerg", b"alert", b"crit", b"err", b"warn", b"notice", b"info", b"debug",
        ];
        levels.contains(&level).then(|| {
            self.set_origin(facility == b"kern");
            rest
        })
    }

    /// `0.000000] `: the bracket, and maybe digits, have been lost.
    fn lost_bracket<'a>(&mut self, text: &'a [u8]) -> Option<&'a [u8]> {
        let end = memchr::memchr(b']', text)?;
        let inside = text[..end].trim_ascii();
        if seconds(inside).is_some() {
            self.stamp.text = inside.to_vec();
        } else if is_ctime(inside) {
            self.put_wall(WallFormat::Ctime, inside);
        } else {
            return None;
        }
        Some(&text[end + 1..])
    }

    /// `[  180.442663][T20263]` and everything else that dmesg puts into brackets.
    fn brackets<'a>(&mut self, mut text: &'a [u8]) -> &'a [u8] {
        loop {
            let trimmed = text.trim_ascii_start();
            let inside = trimmed.strip_prefix(b"[").and_then(|inside| {
                let end = memchr::memchr(b']', inside)?;
                self.bracket(inside[..end].trim_ascii())?;
                Some(&inside[end + 1..])
            });
            match inside {
                Some(rest) => text = rest,
                None => return text,
            }
        }
    }

    fn bracket(&mut self, inside: &[u8]) -> Option<()> {
        let (time, delta) = split_delta(inside);
        if let Some(since) = delta {
            self.stamp.since_previous = Some(since);
        }
        if let Some(uptime) = seconds(time) {
            self.stamp.uptime = Some(uptime);
            if self.stamp.wall.is_none() {
                self.stamp.text = time.to_vec();
            }
        } else if let Some(since) = time.strip_prefix(b"+").and_then(seconds) {
            self.stamp.since_previous = Some(since);
            self.stamp.text = time.to_vec();
        } else if let Some(caller) = caller(time) {
            self.caller = Some(caller);
        } else if is_ctime(time) {
            self.put_wall(WallFormat::Ctime, time);
        } else if is_minute(time) {
            self.put_wall(WallFormat::Minute, time);
        } else {
            return None;
        }
        Some(())
    }

    /// A time without brackets.
    fn wall<'a>(&mut self, text: &'a [u8]) -> &'a [u8] {
        let text = text.trim_ascii_start();
        let found = [
            (WallFormat::Iso, iso(text)),
            (WallFormat::Full, full(text)),
            (WallFormat::Syslog, syslog(text)),
            (WallFormat::Unix, unix(text)),
        ];
        let found = found.into_iter().find_map(|(wall, end)| Some((wall, end?)));
        let Some((wall, end)) = found.filter(|_| self.stamp.is_empty()) else {
            return text;
        };
        self.put_wall(wall, &text[..end]);
        &text[end..]
    }

    fn put_wall(&mut self, wall: WallFormat, text: &[u8]) {
        self.stamp.wall = Some(wall);
        self.stamp.text = text.to_vec();
    }

    /// `host kernel: `, `kernel: `, or `host kernel - - - ` as in RFC 5424.
    fn tag<'a>(&mut self, text: &'a [u8]) -> &'a [u8] {
        let Some((first, rest)) = word(text) else {
            return text;
        };
        if let Some(tag) = first.strip_suffix(b":") {
            return self.tagged(None, tag, rest, text);
        }
        let Some((second, rest)) = word(rest) else {
            return text;
        };
        if let Some(tag) = second.strip_suffix(b":") {
            return self.tagged(Some(first), tag, rest, text);
        }
        match (self.stamp.wall, structured(rest)) {
            (Some(WallFormat::Iso), Some(rest)) => self.tagged(Some(first), second, rest, text),
            _ => text,
        }
    }

    /// A tag that is not the kernel's makes it a program's line only where loggers put tags, and that is
    /// after a time. After the kernel's own time it may be a subsystem's name, unless it has a process id.
    fn tagged<'a>(
        &mut self,
        host: Option<&[u8]>,
        tag: &[u8],
        rest: &'a [u8],
        untagged: &'a [u8],
    ) -> &'a [u8] {
        if tag == b"kernel" {
            self.host = host.map(<[u8]>::to_vec);
            self.origin = Origin::Kernel;
            rest
        } else if self.stamp.wall.is_some() || (!self.stamp.is_empty() && tag.ends_with(b"]")) {
            self.origin = Origin::Program;
            rest
        } else {
            untagged
        }
    }
}

/// Without what quotes it, and without a space before it.
pub(crate) fn unquoted(line: &[u8]) -> &[u8] {
    let mut rest = line;
    loop {
        rest = match rest {
            [b' ' | b'\t' | b'>' | b'|', after @ ..] => after,
            // Without a space it is part of a message: `#AC`.
            [b'#' | b'*', b' ', after @ ..] => after,
            _ => return rest,
        };
    }
}

/// A word, and what follows the spaces after it.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.trim_ascii_start();
    let end = text.iter().position(u8::is_ascii_whitespace)?;
    (end > 0).then(|| (&text[..end], text[end..].trim_ascii_start()))
}

fn name_and_colon(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b':', text).filter(|&end| end <= 10)?;
    let name = text[..end].trim_ascii_end();
    let is_name = !name.is_empty() && name.iter().all(u8::is_ascii_alphanumeric);
    is_name.then(|| (name, text[end + 1..].trim_ascii_start()))
}

/// `T123` or `C1`.
fn caller(text: &[u8]) -> Option<Caller> {
    let (kind, number) = text.split_first()?;
    let number = u32::try_from(decimal(number)?).ok()?;
    match kind {
        b'T' => Some(Caller::Thread(number)),
        b'C' => Some(Caller::Cpu(number)),
        _ => None,
    }
}

/// `1234.567890 <    0.000012>` (`dmesg -d`)
fn split_delta(inside: &[u8]) -> (&[u8], Option<Duration>) {
    let delta = inside.strip_suffix(b">").and_then(|inside| {
        let at = memchr::memrchr(b'<', inside)?;
        let since = seconds(inside[at + 1..].trim_ascii())?;
        Some((inside[..at].trim_ascii(), Some(since)))
    });
    delta.unwrap_or((inside, None))
}

/// `1234.567890`, with at most nine digits after the point.
fn seconds(text: &[u8]) -> Option<Duration> {
    let point = memchr::memchr(b'.', text)?;
    let (whole, fraction) = (&text[..point], &text[point + 1..]);
    let places = u32::try_from(fraction.len()).ok().filter(|&n| n <= 9)?;
    let nanos = decimal(fraction)? * 10u64.pow(9 - places);
    Some(Duration::new(decimal(whole)?, u32::try_from(nanos).ok()?))
}

/// `Tue Aug 18 23:42:51 2026`, whatever the language's words are.
fn is_ctime(text: &[u8]) -> bool {
    let words: Vec<&[u8]> = words(text);
    let [weekday, month, day, time, year] = words[..] else {
        return false;
    };
    is_name(weekday) && is_name(month) && is_day(day) && is_time(time) && is_digits(year, 4..=5)
}

/// `Nov22 14:53`
fn is_minute(text: &[u8]) -> bool {
    let words = words(text);
    let (day, time) = match words[..] {
        [day, time] => (day, time),
        // A month's name may be padded, and so may a day.
        [_, day, time] => (day, time),
        _ => return false,
    };
    let digits = day.iter().rev().take_while(|byte| byte.is_ascii_digit());
    let is_day = matches!(digits.count(), 1..=2) && (words.len() == 3 || is_name(day));
    is_day && has_shape(time, b"00:00")
}

/// The end of `2026-11-22T14:53:09.123456+00:00`.
fn iso(text: &[u8]) -> Option<usize> {
    let end = text.iter().position(u8::is_ascii_whitespace)?;
    let (date, rest) = text[..end].split_at_checked(10)?;
    let rest = rest.strip_prefix(b"T")?;
    let (time, zone) = time_and_rest(rest)?;
    let is_zone = match zone {
        [] | b"Z" => true,
        [b'+' | b'-', digits @ ..] => {
            let digits: Vec<u8> = digits.iter().copied().filter(|&b| b != b':').collect();
            matches!(digits.len(), 2 | 4) && is_digits(&digits, 2..=4)
        }
        _ => false,
    };
    (is_date(date) && is_time(time) && is_zone).then_some(end)
}

/// The end of `Sun 2026-11-22 14:53:09 UTC`.
fn full(text: &[u8]) -> Option<usize> {
    let (weekday, rest) = word(text)?;
    let (date, rest) = word(rest)?;
    let (time, rest) = word(rest)?;
    let (zone, _) = word(rest)?;
    let (time, after) = time_and_rest(time)?;
    let is_zone = zone
        .iter()
        .all(|b| b.is_ascii_alphanumeric() || b"+-".contains(b));
    let is_full = is_name(weekday) && is_date(date) && is_time(time) && after.is_empty() && is_zone;
    is_full.then(|| end_of(zone, text))
}

/// The end of `Nov 11 03:49:25` or `juil. 30 01:40:01.123456`.
fn syslog(text: &[u8]) -> Option<usize> {
    let (month, rest) = word(text)?;
    let (day, rest) = word(rest)?;
    let (time, _) = word(rest)?;
    let (time_only, after) = time_and_rest(time)?;
    let is_syslog = is_name(month) && is_day(day) && is_time(time_only) && after.is_empty();
    is_syslog.then(|| end_of(time, text))
}

/// The end of `1763823189.123456`.
fn unix(text: &[u8]) -> Option<usize> {
    let (time, _) = word(text)?;
    let since = seconds(time)?;
    // Ten digits: between 2001 and 2286.
    (1_000_000_000..10_000_000_000)
        .contains(&since.as_secs())
        .then_some(time.len())
}

/// Where `part`, a part of `whole`, ends in it.
fn end_of(part: &[u8], whole: &[u8]) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize + part.len()
}

fn words(text: &[u8]) -> Vec<&[u8]> {
    let words = text.split(u8::is_ascii_whitespace);
    words.filter(|word| !word.is_empty()).take(6).collect()
}

/// After the host and the program in RFC 5424: process, message id, structured data.
fn structured(text: &[u8]) -> Option<&[u8]> {
    let (_process, rest) = word(text)?;
    let (_message_id, rest) = word(rest)?;
    match rest.strip_prefix(b"-") {
        Some(rest) => Some(rest.trim_ascii_start()),
        None => {
            let end = memchr::memchr(b']', rest.strip_prefix(b"[")?)?;
            Some(rest[end + 2..].trim_ascii_start())
        }
    }
}

/// A month or a weekday in some language: `juil.`, `11月`.
fn is_name(text: &[u8]) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_alphabetic() || !byte.is_ascii();
    let fits = |byte: &u8| is_letter(byte) || byte.is_ascii_digit() || *byte == b'.';
    text.len() <= 24 && text.iter().all(fits) && text.iter().any(is_letter)
}

fn is_day(text: &[u8]) -> bool {
    is_digits(text.strip_suffix(b".").unwrap_or(text), 1..=2)
}

/// `2026-11-22`
fn is_date(text: &[u8]) -> bool {
    has_shape(text, b"0000-00-00")
}

/// `03:49:25`, and maybe a fraction.
fn is_time(text: &[u8]) -> bool {
    const SECONDS: &[u8] = b"00:00:00";
    let (time, fraction) = text.split_at(text.len().min(SECONDS.len()));
    let is_fraction = match fraction {
        [] => true,
        [point, digits @ ..] => b".,".contains(point) && is_digits(digits, 1..=9),
    };
    has_shape(time, SECONDS) && is_fraction
}

/// Whether it has a digit for each `0`, and all the rest of `shape` as it is.
fn has_shape(text: &[u8], shape: &[u8]) -> bool {
    let fits = |(&byte, &part): (&u8, &u8)| byte == part || (part == b'0' && byte.is_ascii_digit());
    text.len() == shape.len() && text.iter().zip(shape).all(fits)
}

fn time_and_rest(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit() && !b":.,".contains(byte))
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn is_digits(text: &[u8], count: std::ops::RangeInclusive<usize>) -> bool {
    count.contains(&text.len()) && text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
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
