//! Times, as loggers write them: each function finds where one ends that a text begins with.

use std::time::Duration;

use crate::WallFormat;
use crate::message::{decimal, split_digits};

/// Where a time ends that a text begins with.
type End = fn(&[u8]) -> Option<usize>;

/// Times of a wall clock that need no brackets, with one of each. The first that fits counts.
pub(super) const WALL: &[(WallFormat, &str, End)] = &[
    (WallFormat::Iso, "2026-11-22T14:53:09.123456+00:00", iso),
    (WallFormat::Syslog, "Nov 22 14:53:09", syslog),
    (WallFormat::Full, "Sun 2026-11-22 14:53:09 UTC", full),
    (WallFormat::Ctime, "Sun Nov 22 14:53:09 2026", ctime),
    (WallFormat::Unix, "1763823189.123456", unix),
    (WallFormat::UnixMillis, "1763823189123", unix_millis),
    (WallFormat::MonthDay, "11-22 14:53:09.123", month_day),
    (WallFormat::TimeOfDay, "14:53:09", time_of_day),
];

/// The time of a wall clock that a text begins with, and where it ends.
pub(super) fn wall(text: &[u8]) -> Option<(WallFormat, usize)> {
    // Most texts have no time in front, and the first colon tells: that of a clock stands behind a digit.
    const LONGEST: usize = 80;
    let colon = memchr::memchr(b':', &text[..text.len().min(LONGEST)]);
    let is_clock = colon.is_some_and(|at| at > 0 && text[at - 1].is_ascii_digit());
    let is_number = text.first().is_some_and(u8::is_ascii_digit);
    if !is_clock && !is_number {
        return None;
    }
    WALL.iter().find_map(|&(format, _, read)| {
        let end = read(text)?;
        let is_over = text
            .get(end)
            .is_none_or(|byte| !byte.is_ascii_alphanumeric());
        is_over.then_some((format, end))
    })
}

/// The whole text, as one of these times.
pub(crate) fn whole_wall(text: &[u8]) -> Option<WallFormat> {
    wall(text)
        .filter(|&(_, end)| end == text.len())
        .map(|(format, _)| format)
}

/// `1234.567890`, with at most nine digits after the point.
pub(super) fn seconds(text: &[u8]) -> Option<Duration> {
    let point = memchr::memchr(b'.', text)?;
    let (whole, fraction) = (&text[..point], &text[point + 1..]);
    let places = u32::try_from(fraction.len()).ok().filter(|&n| n <= 9)?;
    let nanos = decimal(fraction)? * 10u64.pow(9 - places);
    Some(Duration::new(decimal(whole)?, u32::try_from(nanos).ok()?))
}

/// `1234.567890 <    0.000012>` (`dmesg -d`)
pub(super) fn split_delta(inside: &[u8]) -> (&[u8], Option<Duration>) {
    let delta = inside.strip_suffix(b">").and_then(|inside| {
        let at = memchr::memrchr(b'<', inside)?;
        let since = seconds(inside[at + 1..].trim_ascii())?;
        Some((inside[..at].trim_ascii(), Some(since)))
    });
    delta.unwrap_or((inside, None))
}

/// `Nov22 14:53`
pub(super) fn is_minute(text: &[u8]) -> bool {
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

/// `2026-11-22T14:53:09.123456+00:00`, `2026-11-22 14:53:09 UTC`, `2026/11/22 14:53:09`
fn iso(text: &[u8]) -> Option<usize> {
    let (date, rest) = text.split_at_checked(10)?;
    let is_date = has_shape(date, b"0000-00-00") || has_shape(date, b"0000/00/00");
    let rest = match rest {
        [b'T' | b't' | b' ' | b'_', rest @ ..] if is_date => rest,
        _ => return None,
    };
    let rest = &rest[clock(rest)?..];
    let rest = &rest[zone(rest)..];
    Some(text.len() - rest.len())
}

/// `Sun 2026-11-22 14:53:09 UTC`
fn full(text: &[u8]) -> Option<usize> {
    let (weekday, rest) = word(text)?;
    let (date, rest) = word(rest)?;
    let time = clock(rest)?;
    let rest = rest[time..].strip_prefix(b" ")?;
    let is_of_zone = |b: &u8| b.is_ascii_alphanumeric() || b"+-".contains(b);
    let zone = rest.iter().take_while(|b| is_of_zone(b)).count();
    let is_full = is_name(weekday) && has_shape(date, b"0000-00-00") && zone > 0;
    is_full.then(|| text.len() - rest.len() + zone)
}

/// `Tue Aug 18 23:42:51 2026`, whatever the language's words are; a zone may stand before the year.
pub(super) fn ctime(text: &[u8]) -> Option<usize> {
    let (weekday, rest) = word(text)?;
    let (month, rest) = word(rest)?;
    let (day, rest) = word(rest)?;
    let (time, mut rest) = word(rest)?;
    if let Some((zone, after)) = word(rest)
        && (2..=5).contains(&zone.len())
        && zone.iter().all(u8::is_ascii_uppercase)
    {
        rest = after;
    }
    let digits = split_digits(rest, u8::is_ascii_digit).0.len();
    let is_ctime = is_name(weekday)
        && is_name(month)
        && is_day(day)
        && clock(time) == Some(time.len())
        && (4..=5).contains(&digits);
    is_ctime.then(|| text.len() - rest.len() + digits)
}

/// `Nov 11 03:49:25`, `juil. 30 01:40:01.123456`; syslog-ng and some routers put a year before or behind the date.
fn syslog(text: &[u8]) -> Option<usize> {
    let is_year = |word: &[u8]| has_shape(word, b"0000");
    let (first, rest) = word(text)?;
    let (month, rest) = if is_year(first) {
        word(rest)?
    } else {
        (first, rest)
    };
    let (day, rest) = word(rest)?;
    let rest = match word(rest) {
        Some((year, after)) if is_year(year) => after,
        _ => rest,
    };
    let end = clock(rest)?;
    // Cisco's have a colon behind the time.
    (is_name(month) && is_day(day)).then(|| text.len() - rest.len() + end)
}

/// `1763823189.123456`, seconds since 1970
fn unix(text: &[u8]) -> Option<usize> {
    let (time, _) = split_digits(text, |byte| byte.is_ascii_digit() || *byte == b'.');
    let since = seconds(time).map(|time| time.as_secs());
    // Ten digits: between 2001 and 2286.
    let is_now = (1_000_000_000..10_000_000_000).contains(&since.or_else(|| decimal(time))?);
    is_now.then_some(time.len())
}

/// `1763823189123`, milliseconds since 1970
fn unix_millis(text: &[u8]) -> Option<usize> {
    let (digits, _) = split_digits(text, u8::is_ascii_digit);
    let is_now = (1_000_000_000_000..10_000_000_000_000).contains(&decimal(digits)?);
    is_now.then_some(digits.len())
}

/// `11-22 14:53:09.123`: Android
fn month_day(text: &[u8]) -> Option<usize> {
    let (date, rest) = text.split_at_checked(6)?;
    has_shape(date, b"00-00 ").then_some(())?;
    let end = clock(rest)?;
    rest[..end].contains(&b'.').then_some(6 + end)
}

/// `14:53:09.123`: terminal programs
fn time_of_day(text: &[u8]) -> Option<usize> {
    clock(text)
}

/// `03:49:25`, and maybe a fraction.
fn clock(text: &[u8]) -> Option<usize> {
    const SECONDS: &[u8] = b"00:00:00";
    let (time, rest) = text.split_at_checked(SECONDS.len())?;
    if !has_shape(time, SECONDS) {
        return None;
    }
    let fraction = match rest {
        [b'.' | b',', rest @ ..] => split_digits(rest, u8::is_ascii_digit).0.len(),
        _ => 0,
    };
    match fraction {
        0 => Some(SECONDS.len()),
        1..=9 => Some(SECONDS.len() + 1 + fraction),
        _ => None,
    }
}

/// How long the time zone is, if one follows a time: `Z`, `+01:00`, ` +0100`, ` UTC`.
fn zone(text: &[u8]) -> usize {
    let space = usize::from(text.starts_with(b" "));
    let zone = &text[space..];
    let ends = |length: usize| !zone.get(length).is_some_and(u8::is_ascii_alphanumeric);
    // Digits stand for any, as in `has_shape`.
    const FORMS: [&[u8]; 9] = [
        b"+00:00", b"-00:00", b"+0000", b"-0000", b"+00", b"-00", b"UTC", b"GMT", b"Z",
    ];
    let fits = |form: &&&[u8]| {
        zone.get(..form.len())
            .is_some_and(|zone| has_shape(zone, form))
    };
    match FORMS.iter().find(fits).map(|form| form.len()) {
        Some(length) if ends(length) && !(space > 0 && length < 3) => space + length,
        _ => 0,
    }
}

/// A word, and what follows the spaces after it.
pub(super) fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.trim_ascii_start();
    let end = text.iter().position(u8::is_ascii_whitespace)?;
    (end > 0).then(|| (&text[..end], text[end..].trim_ascii_start()))
}

fn words(text: &[u8]) -> Vec<&[u8]> {
    let words = text.split(u8::is_ascii_whitespace);
    words.filter(|word| !word.is_empty()).take(6).collect()
}

/// A month or a weekday in some language: `juil.`, `11月`.
fn is_name(text: &[u8]) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_alphabetic() || !byte.is_ascii();
    let fits = |byte: &u8| is_letter(byte) || byte.is_ascii_digit() || *byte == b'.';
    text.len() <= 24 && text.iter().all(fits) && text.iter().any(is_letter)
}

fn is_day(text: &[u8]) -> bool {
    let text = text.strip_suffix(b".").unwrap_or(text);
    (1..=2).contains(&text.len()) && text.iter().all(u8::is_ascii_digit)
}

/// Whether it has a digit for each `0`, and all the rest of `shape` as it is.
fn has_shape(text: &[u8], shape: &[u8]) -> bool {
    let fits = |(&byte, &part): (&u8, &u8)| byte == part || (part == b'0' && byte.is_ascii_digit());
    text.len() == shape.len() && text.iter().zip(shape).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_read_as_what_it_is() {
        for (format, example, _) in WALL {
            assert_eq!(whole_wall(example.as_bytes()), Some(*format), "{example}");
        }
        for (example, format) in [
            ("2026-11-22 14:53:09", WallFormat::Iso),
            ("2026-11-22 14:53:09,123 +0100", WallFormat::Iso),
            ("2026/11/22 14:53:09 UTC", WallFormat::Iso),
            ("2026-11-22T14:53:09+0100", WallFormat::Iso),
            ("Sun Nov 22 14:53:09 CET 2026", WallFormat::Ctime),
            ("Nov 22 2026 14:53:09", WallFormat::Syslog),
            ("2026 Nov 22 14:53:09", WallFormat::Syslog),
            ("1763823189", WallFormat::Unix),
        ] {
            assert_eq!(whole_wall(example.as_bytes()), Some(format), "{example}");
        }
        for other in [
            "2026-11-22",
            "17638231891234567",
            "14:53",
            "11-22 14:53:09",
            "x",
            "",
        ] {
            assert_eq!(whole_wall(other.as_bytes()), None, "{other}");
        }
    }
}
