//! The small forms that stand before a message, one to a row. The next logger is one row.

use std::time::Duration;

use super::tags::{LEVELS, host_and_tag, level, tagged_level};
use super::time::{self, word};
use super::{Header, ctime, seconds};
use crate::message::{decimal, split_digits};
use crate::{Caller, WallFormat};

/// Something that may stand before a message.
pub(super) struct Form {
    /// The form itself, as it stands before a message.
    #[cfg_attr(not(test), expect(dead_code, reason = "its test"))]
    pub(super) examples: &'static [&'static str],
    /// Reads it off a text, and returns what follows; `None` if that begins with something else.
    pub(super) read: for<'a> fn(&mut Header, &'a [u8]) -> Option<&'a [u8]>,
}

macro_rules! forms {
    ($($read:ident: $($example:literal),+;)+) => {
        /// In the order in which they are tried.
        pub(super) const FORMS: &[Form] = &[$(Form { examples: &[$($example),+], read: $read }),+];
    };
}

forms! {
    key: "\"msg\": \"", "MESSAGE=", "time=", "ts=2026-11-22T14:53:09Z ", "level=warn ", "\"level\":4,";
    marks: "> > ", "| ", "- ", "# ", "`", "\"", "+ ", "\u{feff}", "“";
    html: "<pre><code>", "<br/>", "<span class=\"line\">";
    escape: r"\u001b[32m", r"\t", r#"\""#;
    kmsg: "4,1234,688792264,-,caller=T12;", "6.6.58,4,1234,12345678901,-;";
    priority: "<4>", "<4>1 ";
    decoded_priority: "kern  :warn  : ";
    lost_bracket: "0.000000] ", "Fri Feb 28 09:30:05 2025] ";
    brackets: "[  180.442663][T20263] ", "[Nov22 14:53] ", "[2026-11-22 14:53:09] ";
    us_time: "11/22/26 2:53:09.000 PM ";
    wall: "Nov 22 14:53:09 ", "2026-11-22 14:53:09 +0100 ", "11-22 14:53:09.123 ";
    csv_field: "tower\",\"", "tower,\"";
    line_number: "     1\t", "    754 ", "12:", "12 │ ";
    file_name: "/var/log/kern.log:", "kern.log.1:17:", "syslog-";
    login: "myhost login: ";
    prefixed_name: "web-1  | ";
    stream: "stdout F ", "stderr P ";
    level: "WARNING ", "kern.warn ", "kern.warning: ", "W ", "0 0 W ", "0 0 W         : ";
    tagged_level: "W/kernel  (    0): ", "W/x86/split lock detection(    0): ";
    host_and_tag: "kernel: ", "myhost kernel: ", "relay Nov 22 14:53:09 myhost kernel: ",
        "myhost kern.warn kernel: ", "myhost kernel[0]: ";
}

/// Quotation, bullets, quotes, separators of fields.
fn marks<'a>(_: &mut Header, text: &'a [u8]) -> Option<&'a [u8]> {
    let rest = unquoted(text);
    let rest = match rest {
        [b'"' | b'\'' | b'`' | b',' | b';' | 0x1e | 0, after @ ..] => after,
        [b'-' | b'+', b' ', after @ ..] => after,
        [b'-' | b'+', b'[', ..] => &rest[1..],
        _ => ["\u{feff}", "│", "“", "‘", "»", "•", "\u{a0}"]
            .iter()
            .find_map(|mark| rest.strip_prefix(mark.as_bytes()))
            .unwrap_or(rest),
    };
    (rest.len() < text.len()).then_some(rest)
}

/// Without what quotes it, and without a space before it.
pub(crate) fn unquoted(line: &[u8]) -> &[u8] {
    let mut rest = line;
    loop {
        rest = match rest {
            [b' ' | b'\t' | b'>' | b'|' | b'\r', after @ ..] => after,
            // Without a space it is part of a message: `#AC`.
            [b'#' | b'*', b' ', after @ ..] => after,
            _ => return rest,
        };
    }
}

fn html<'a>(_: &mut Header, text: &'a [u8]) -> Option<&'a [u8]> {
    const LONGEST: usize = 200;
    let inside = text.strip_prefix(b"<")?;
    let is_tag = matches!(inside, [b'a'..=b'z' | b'A'..=b'Z', ..] | [b'/' | b'!', ..]);
    let end = memchr::memchr(b'>', &inside[..inside.len().min(LONGEST)])?;
    is_tag.then(|| &inside[end + 1..])
}

/// Escapes of a string, where the string itself could not be read.
fn escape<'a>(_: &mut Header, text: &'a [u8]) -> Option<&'a [u8]> {
    match text.strip_prefix(br"\")? {
        [b'u', rest @ ..] => {
            let rest = rest.strip_prefix(b"001b[")?;
            let end = memchr::memchr(b'm', &rest[..rest.len().min(16)])?;
            Some(&rest[end + 1..])
        }
        [b't' | b'n' | b'r' | b'"' | b'\\', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// Of `/dev/kmsg`, and of a netconsole, which may put the kernel's release in front.
fn kmsg<'a>(header: &mut Header, text: &'a [u8]) -> Option<&'a [u8]> {
    text.first().filter(|first| first.is_ascii_digit())?;
    let end = memchr::memchr(b';', text)?;
    let mut fields = text[..end].split(|&byte| byte == b',').peekable();
    fields.next_if(|first| first.contains(&b'.'));
    let priority = decimal(fields.next()?)?;
    let _sequence = decimal(fields.next()?)?;
    let micros = fields.next()?;
    header.stamp.uptime = Some(Duration::from_micros(decimal(micros)?));
    header.stamp.text = micros.to_vec();
    let mut callers = fields.filter_map(|field| field.strip_prefix(b"caller="));
    header.caller = callers.find_map(caller);
    header.set_origin(is_kernel(priority));
    header.is_escaped = true;
    Some(&text[end + 1..])
}

/// Of the facility 0.
fn is_kernel(priority: u64) -> bool {
    priority >> 3 == 0
}

/// And the version that follows it in RFC 5424.
fn priority<'a>(header: &mut Header, text: &'a [u8]) -> Option<&'a [u8]> {
    let inside = text.strip_prefix(b"<")?;
    let end = memchr::memchr(b'>', inside).filter(|&end| end <= 3)?;
    header.set_origin(is_kernel(decimal(&inside[..end])?));
    let rest = &inside[end + 1..];
    Some(rest.strip_prefix(b"1 ").unwrap_or(rest))
}

/// `dmesg -x`
fn decoded_priority<'a>(header: &mut Header, text: &'a [u8]) -> Option<&'a [u8]> {
    let (facility, rest) = name_and_colon(text)?;
    let (level, rest) = name_and_colon(rest)?;
    LEVELS.contains(&level).then(|| {
        header.set_origin(facility == b"kern");
        rest
    })
}

fn name_and_colon(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b':', text).filter(|&end| end <= 10)?;
    let name = text[..end].trim_ascii_end();
    let is_name = !name.is_empty() && name.iter().all(u8::is_ascii_alphanumeric);
    is_name.then(|| (name, text[end + 1..].trim_ascii_start()))
}

/// The bracket, and maybe digits, have been lost: so the number is no time that can be trusted.
fn lost_bracket<'a>(header: &mut Header, text: &'a [u8]) -> Option<&'a [u8]> {
    if !header.is_unread() {
        return None;
    }
    let end = memchr::memchr(b']', text)?;
    let inside = text[..end].trim_ascii();
    if seconds(inside).is_some() {
        header.stamp.text = inside.to_vec();
    } else if ctime(inside) == Some(inside.len()) {
        header.put_wall(WallFormat::Ctime, inside);
    } else {
        return None;
    }
    Some(&text[end + 1..])
}

fn brackets<'a>(header: &mut Header, text: &'a [u8]) -> Option<&'a [u8]> {
    header.in_brackets(text)
}

/// The name of a field: of JSON that is not whole, of logfmt, of `journalctl -o verbose`. Fields that are not
/// about the message are left out.
fn key<'a>(header: &mut Header, text: &'a [u8]) -> Option<&'a [u8]> {
    const LONGEST: usize = 40;
    let named = text.strip_prefix(b"\"").unwrap_or(text);
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_@.-".contains(byte);
    let end = named.iter().position(|byte| !is_name(byte))?;
    let name = (1..=LONGEST).contains(&end).then(|| &named[..end])?;
    let rest = match (named.len() < text.len(), &named[end..]) {
        (false, [b'=', rest @ ..]) => rest,
        (true, [b'"', rest @ ..]) => rest.trim_ascii_start().strip_prefix(b":")?,
        _ => return None,
    };
    let rest = rest.trim_ascii_start();
    match crate::json::FieldName::of(name) {
        Some(crate::json::FieldName::Host) => {
            let value = rest.strip_prefix(b"\"").unwrap_or(rest);
            let end = value
                .iter()
                .position(|byte| b" \t\",".contains(byte))
                .unwrap_or(value.len());
            header.host = Some(value[..end].to_vec());
            Some(&value[end..])
        }
        Some(crate::json::FieldName::Program) => {
            let value = rest.strip_prefix(b"\"").unwrap_or(rest);
            header.set_origin(value.starts_with(b"kern"));
            other_value(rest)
        }
        Some(_) => Some(rest),
        None if rest.len() > 64 || rest.iter().any(|byte| b" \t,".contains(byte)) => {
            other_value(rest)
        }
        None => Some(rest),
    }
}

/// What follows a field's value that is of no interest.
fn other_value(text: &[u8]) -> Option<&[u8]> {
    if let Some(quoted) = text.strip_prefix(b"\"") {
        return Some(&quoted[memchr::memchr(b'"', quoted)? + 1..]);
    }
    let end = text.iter().position(|byte| b" \t,".contains(byte))?;
    Some(&text[end..])
}

fn wall<'a>(header: &mut Header, text: &'a [u8]) -> Option<&'a [u8]> {
    // Behind the kernel's own time it is part of the message.
    if header.stamp.wall.is_none() && !header.stamp.is_empty() {
        return None;
    }
    let (format, end) = time::wall(text)?;
    header.put_wall(format, &text[..end]);
    Some(&text[end..])
}

/// Splunk's, in front of the line itself, which has a time of its own.
fn us_time<'a>(header: &mut Header, text: &'a [u8]) -> Option<&'a [u8]> {
    if !matches!(
        text,
        [b'0'..=b'9', b'/', ..] | [b'0'..=b'9', b'0'..=b'9', b'/', ..]
    ) {
        return None;
    }
    let (date, rest) = word(text)?;
    let (clock, rest) = word(rest)?;
    let (half, rest) = word(rest)?;
    let is_made_of = |word: &[u8], mark: u8| {
        word.iter().filter(|&&byte| byte == mark).count() == 2
            && word
                .iter()
                .all(|byte| byte.is_ascii_digit() || [mark, b'.'].contains(byte))
    };
    let is_time =
        is_made_of(date, b'/') && is_made_of(clock, b':') && matches!(half, b"AM" | b"PM");
    (header.is_unread() && is_time).then_some(rest)
}

/// Of a table, between its time and the message.
fn csv_field<'a>(header: &mut Header, text: &'a [u8]) -> Option<&'a [u8]> {
    const LONGEST: usize = 64;
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    let end = text.iter().position(|byte| !is_of_name(byte))?;
    let is_field = (1..=LONGEST).contains(&end) && !header.stamp.is_empty();
    let separators: [&[u8]; 3] = [b"\",\"", b",\"", b"\","];
    let after = |separator: &&[u8]| text[end..].strip_prefix(*separator);
    separators.iter().find_map(after).filter(|_| is_field)
}

/// Of `cat -n`, `uniq -c`, `grep -n`, `less -N`, bat.
fn line_number<'a>(header: &mut Header, text: &'a [u8]) -> Option<&'a [u8]> {
    let (digits, rest) = split_digits(text, u8::is_ascii_digit);
    if !header.is_unread() || !(1..=9).contains(&digits.len()) {
        return None;
    }
    match rest {
        [b'\t' | b' ' | b':', rest @ ..] => Some(rest),
        [b'-', rest @ ..] if rest.first().is_none_or(|byte| !byte.is_ascii_digit()) => Some(rest),
        _ => None,
    }
}

/// As grep puts it before a line.
fn file_name<'a>(header: &mut Header, text: &'a [u8]) -> Option<&'a [u8]> {
    if !header.is_unread() {
        return None;
    }
    let is_of_path = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+~@".contains(byte);
    let end = text
        .iter()
        .position(|byte| !is_of_path(byte))
        .unwrap_or(text.len());
    let name = &text[..end];
    let logs: [&[u8]; 6] = [b"log", b"messages", b"dmesg", b"kern", b".txt", b".gz"];
    let has = |part: &&[u8]| memchr::memmem::find(name, part).is_some();
    if !name.contains(&b'/') && !logs.iter().any(has) {
        return None;
    }
    if text.get(end) == Some(&b':') && name != b"kernel" {
        return Some(&text[end + 1..]);
    }
    // A line of the context, as `grep -C` shows it.
    let dash = memchr::memrchr(b'-', name)?;
    let is_log = logs.iter().any(|part| name[..dash].ends_with(part));
    is_log.then(|| &text[dash + 1..])
}

/// Of a serial console on which a getty waits.
fn login<'a>(header: &mut Header, text: &'a [u8]) -> Option<&'a [u8]> {
    let (host, rest) = word(text)?;
    let rest = rest.strip_prefix(b"login: ")?;
    header.is_unread().then(|| {
        header.host = Some(host.to_vec());
        rest
    })
}

/// Of docker compose, and of others that merge several logs.
fn prefixed_name<'a>(header: &mut Header, text: &'a [u8]) -> Option<&'a [u8]> {
    let (name, rest) = word(text)?;
    let rest = rest.strip_prefix(b"| ")?;
    (header.is_unread() && name.len() <= 64).then_some(rest)
}

/// Of a container's log: which stream, and whether the line is whole.
fn stream<'a>(_: &mut Header, text: &'a [u8]) -> Option<&'a [u8]> {
    let rest = text
        .strip_prefix(b"stdout ")
        .or(text.strip_prefix(b"stderr "))?;
    rest.strip_prefix(b"F ").or(rest.strip_prefix(b"P "))
}

/// `T123` or `C1`.
pub(super) fn caller(text: &[u8]) -> Option<Caller> {
    let (kind, number) = text.split_first()?;
    let number = u32::try_from(decimal(number)?).ok()?;
    match kind {
        b'T' => Some(Caller::Thread(number)),
        b'C' => Some(Caller::Cpu(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read_where_it_stands_before_a_message() {
        for form in FORMS {
            for example in form.examples {
                // Some mean something only behind a time.
                let found = ["", "2026-11-22T14:53:09Z "].iter().any(|before| {
                    let line = format!("{before}{example}x86/split");
                    let (_, rest) = Header::read(line.as_bytes());
                    rest == b"x86/split"
                });
                assert!(found, "{example}");
            }
        }
    }
}
