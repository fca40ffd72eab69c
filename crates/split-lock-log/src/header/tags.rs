//! Who has written a line, and how bad it is: what syslog and others put between the time and the message.

use super::Header;
use super::time::{self, word};
use crate::WallFormat;
use crate::message::decimal;

pub(super) const LEVELS: [&[u8]; 8] = [
    b"emerg", b"alert", b"crit", b"err", b"warn", b"notice", b"info", b"debug",
];

/// How bad it is, and whose it is, where loggers write that as a word: behind a time.
pub(super) fn level<'a>(header: &mut Header, text: &'a [u8]) -> Option<&'a [u8]> {
    let (first, rest) = word(text)?;
    if let Some(dot) = memchr::memchr(b'.', first) {
        let level = &first[dot + 1..];
        let level = level.strip_suffix(b":").unwrap_or(level);
        let known = LEVELS.contains(&level) || level == b"warning" || level == b"error";
        return known.then(|| {
            header.set_origin(&first[..dot] == b"kern");
            rest
        });
    }
    let is_level = matches!(
        first,
        b"EMERG"
            | b"ALERT"
            | b"CRIT"
            | b"CRITICAL"
            | b"ERR"
            | b"ERROR"
            | b"WARN"
            | b"WARNING"
            | b"NOTICE"
            | b"INFO"
            | b"DEBUG"
            | b"UNKNOWN"
    );
    if is_level && (header.stamp.wall.is_some() || !header.is_unread()) {
        return Some(rest);
    }
    header.stamp.wall?;
    // Android: process, thread, a letter.
    let (number, letter, rest) = match first {
        [b'V' | b'D' | b'I' | b'W' | b'E' | b'F'] => return Some(rest),
        _ => {
            let (thread, rest) = word(rest)?;
            let (letter, rest) = word(rest)?;
            (decimal(first).and(decimal(thread)), letter, rest)
        }
    };
    // The kernel's lines have no tag.
    let rest = rest.strip_prefix(b": ").unwrap_or(rest);
    (number.is_some() && matches!(letter, [b'V' | b'D' | b'I' | b'W' | b'E' | b'F']))
        .then_some(rest)
}

/// Android's level, tag and process.
pub(super) fn tagged_level<'a>(header: &mut Header, text: &'a [u8]) -> Option<&'a [u8]> {
    let [b'V' | b'D' | b'I' | b'W' | b'E' | b'F', b'/', tag @ ..] = text else {
        return None;
    };
    let end = memchr::memmem::find(&tag[..tag.len().min(80)], b"): ")?;
    let open = memchr::memrchr(b'(', &tag[..end])?;
    let process = decimal(tag[open + 1..end].trim_ascii())?;
    header.set_origin(process == 0);
    Some(&tag[end + 3..])
}

/// `host kernel: `, `kernel: `, or `host kernel - - - ` as in RFC 5424.
pub(super) fn host_and_tag<'a>(header: &mut Header, text: &'a [u8]) -> Option<&'a [u8]> {
    let (first, rest) = word(text)?;
    if let Some(tag) = first.strip_suffix(b":") {
        return tagged(header, None, tag, rest);
    }
    let has_wall = header.stamp.wall.is_some();
    // A relay has put its own time and name in front.
    if has_wall && time::wall(rest).is_some() && header.host.is_none() {
        header.host = Some(first.to_vec());
        return Some(rest);
    }
    let (second, rest) = word(rest)?;
    if let Some(tag) = second.strip_suffix(b":") {
        let is_level = tag.contains(&b'.') && level(&mut Header::default(), text).is_some();
        return tagged(header, Some(first).filter(|_| !is_level), tag, rest);
    }
    if !has_wall {
        return None;
    }
    let mut with_level = header.clone();
    let from_second = &text[text.len() - rest.len()..];
    let second_on = &text[end_of_word(text, first)..];
    if let Some(after) = level(&mut with_level, second_on.trim_ascii_start())
        && after.len() == from_second.len()
    {
        *header = with_level;
        header.host = Some(first.to_vec());
        return Some(after);
    }
    let rest = structured(rest)?;
    (header.stamp.wall == Some(WallFormat::Iso))
        .then(|| tagged(header, Some(first), second, rest))?
}

fn end_of_word(text: &[u8], word: &[u8]) -> usize {
    word.as_ptr() as usize - text.as_ptr() as usize + word.len()
}

/// A tag that is not the kernel's makes it a program's line only where loggers put tags, and that is
/// after a time. After the kernel's own time it may be a subsystem's name, unless it has a process id.
fn tagged<'a>(
    header: &mut Header,
    host: Option<&[u8]>,
    tag: &[u8],
    rest: &'a [u8],
) -> Option<&'a [u8]> {
    if tag == b"kernel" || tag.starts_with(b"kernel[") {
        if let Some(host) = host {
            header.host = Some(host.to_vec());
        }
        header.set_origin(true);
    } else if header.stamp.wall.is_some() || (!header.stamp.is_empty() && tag.ends_with(b"]")) {
        header.set_origin(false);
    } else {
        return None;
    }
    header.is_tagged = true;
    Some(rest)
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
