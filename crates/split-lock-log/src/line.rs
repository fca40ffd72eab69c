//! One line: does it hold one of the messages, and whole?

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::colour::without_colours;
use crate::header::{Header, Origin};
use crate::journal::{Entry, JsonLine};
use crate::message::{
    END_OF_REFUSED_WRITE, ENDS_OF_TRAPS, LINUX_VERSION, OPENINGS, Opening, PREFIX, Parsed,
    REFUSED_WRITE, hexadecimal_digits,
};
use crate::{Damage, Message};

/// What a line holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// None of the messages.
    Other,
    /// One of the messages, or something that quotes it, in a line that a program has written.
    Foreign,
    Whole(Header, Message),
    /// A beginning that may go on in the next line.
    Partial(Header, Certainty),
    Damaged(Header, Damage),
}

/// How much there is of a message that has only begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Certainty {
    /// There is enough to know that it is one.
    Certain,
    /// A word or two that may be anything.
    Possible,
}

impl Line {
    pub(crate) fn read(line: &[u8]) -> Self {
        match JsonLine::read(line) {
            JsonLine::Entry(entry) => Self::of_entry(&entry),
            JsonLine::Broken => Self::of_broken_entry(line),
            JsonLine::Other => Self::of_text(line),
        }
    }

    /// Without its end nobody knows what of it is escaped, and how much is missing.
    fn of_broken_entry(line: &[u8]) -> Self {
        match Self::of_text(line) {
            Line::Whole(header, _) | Line::Partial(header, Certainty::Certain) => {
                Line::Damaged(header, Damage::CutShort)
            }
            Line::Partial(_, Certainty::Possible) => Line::Other,
            line => line,
        }
    }

    pub(crate) fn of_entry(entry: &Entry) -> Self {
        let line = Self::of_text(&entry.message);
        let with = |header: Header| Header {
            stamp: entry.stamp.clone(),
            host: entry.host.clone(),
            ..header
        };
        match line {
            Line::Other => Line::Other,
            _ if entry.origin == Origin::Program => Line::Foreign,
            Line::Foreign => Line::Foreign,
            Line::Whole(header, message) => Line::Whole(with(header), message),
            // An entry is not wrapped.
            Line::Partial(header, Certainty::Certain) => {
                Line::Damaged(with(header), Damage::CutShort)
            }
            Line::Partial(_, Certainty::Possible) => Line::Other,
            Line::Damaged(header, damage) => Line::Damaged(with(header), damage),
        }
    }

    pub(crate) fn of_text(line: &[u8]) -> Self {
        let line = &*without_colours(line);
        let Some((start, opening, body)) = find(line) else {
            return Self::without_beginning(line);
        };
        let (mut header, rest) = Header::read(&line[..start]);
        // The kernel's message would begin here, and this is somebody's who mentions it.
        if !header.stamp.is_empty() && rest.trim_ascii_end().ends_with(b":") {
            header.origin = Origin::Program;
        }
        let parsed = if header.is_escaped {
            parse_or_begin(opening, &unescape(body))
        } else {
            parse_or_begin(opening, body)
        };
        match parsed {
            Parsed::NotOurs => Line::Other,
            _ if header.origin == Origin::Program => Line::Foreign,
            Parsed::Whole(message) => Line::Whole(header, message),
            Parsed::CutShort => Line::Partial(header, Certainty::Certain),
            Parsed::MaybeCutShort => Line::Partial(header, Certainty::Possible),
            Parsed::Garbled => Line::Damaged(header, Damage::Garbled),
        }
    }

    /// The prefix is not there, or not all of it.
    fn without_beginning(line: &[u8]) -> Self {
        let (header, rest) = Header::read(line);
        if let Some(release) = rest.strip_prefix(LINUX_VERSION)
            && header.origin != Origin::Program
        {
            // Who built it follows in parentheses.
            if let Some(end) = memchr::memmem::find(release, b" (") {
                let release = release[..end].to_vec();
                return Line::Whole(header, Message::Started { release });
            }
        }
        let has = |part: &&[u8]| memchr::memmem::find(line, part).is_some();
        let end_of_prefix = &PREFIX[b"x86/".len()..];
        let damaged =
            ENDS_OF_TRAPS.iter().any(has) || has(&end_of_prefix) || has(&END_OF_REFUSED_WRITE);
        match find_cut_opening(line) {
            _ if damaged && header.origin == Origin::Program => Line::Foreign,
            _ if damaged => Line::Damaged(header, Damage::NoBeginning),
            Some((start, certainty)) => match Header::read(&line[..start]).0 {
                header if header.origin == Origin::Program => Line::Other,
                header => Line::Partial(header, certainty),
            },
            None => Line::Other,
        }
    }
}

/// The mark of a line that goes on is none of the kernel's words.
fn parse_or_begin(opening: Opening, body: &[u8]) -> Parsed {
    let parsed = opening.parse(body);
    if !matches!(parsed, Parsed::Garbled | Parsed::NotOurs) {
        return parsed;
    }
    match opening.parse(without_soft_break(body.trim_ascii_end())) {
        begun @ (Parsed::CutShort | Parsed::MaybeCutShort) => begun,
        _ => parsed,
    }
}

/// To make one takes longer than to search a line.
static OPENING_FINDERS: LazyLock<[(Finder<'static>, Opening); 4]> =
    LazyLock::new(|| OPENINGS.map(|(words, opening)| (Finder::new(words), opening)));

/// Where one of the messages begins, and what follows its first words.
fn find(line: &[u8]) -> Option<(usize, Opening, &[u8])> {
    OPENING_FINDERS.iter().find_map(|(finder, opening)| {
        let start = finder.find(line)?;
        Some((start, *opening, &line[start + finder.needle().len()..]))
    })
}

/// Where a line ends in a beginning of what messages begin with.
fn find_cut_opening(line: &[u8]) -> Option<(usize, Certainty)> {
    const FIRST_WORDS: [(&[u8], &[u8]); 2] =
        [(b"x86/split", PREFIX), (b"unchecked MSR", REFUSED_WRITE)];
    const CERTAIN: &[u8] = b"x86/split lock";
    let line = without_soft_break(line.trim_ascii_end());
    FIRST_WORDS.iter().find_map(|(first, whole)| {
        let start = memchr::memmem::rfind(line, first)?;
        let begun = &line[start..];
        let certainty = if begun.starts_with(CERTAIN) {
            Certainty::Certain
        } else {
            Certainty::Possible
        };
        whole.starts_with(begun).then_some((start, certainty))
    })
}

/// Without the mark by which a mail program says that the line goes on (quoted-printable).
pub(crate) fn without_soft_break(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"=").unwrap_or(line)
}

/// `/dev/kmsg` writes bytes that are not printable as `\x1b`, and so a backslash.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut unescaped = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let escaped = rest.strip_prefix(br"\x").and_then(|rest| {
            let (digits, after) = rest.split_at_checked(2)?;
            Some((hexadecimal_digits(digits)? as u8, after))
        });
        let (byte, after) = escaped.unwrap_or((*first, after));
        unescaped.push(byte);
        rest = after;
    }
    unescaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kmsg_escapes_are_undone() {
        assert_eq!(unescape(br"a\x1b[31m\x5c\xZZ\x0"), b"a\x1b[31m\\\\xZZ\\x0");
    }

    #[test]
    fn what_only_looks_like_a_message_is_none() {
        for line in [
            "[    0.0] Command line: split_lock_detect=warn",
            "split_lock_warn+0x1a/0x80",
            "split_lock_warn: symbol not found",
            "unchecked MSR access error: WRMSR to 0x122 (tried to write 0x2) at rIP: 0x1 (a+0x4/0x20)",
            "unchecked MSR access error: RDMSR from 0x33 at rIP: 0x1 (a+0x4/0x20)",
            "Nov 11 03:49:25 host me[7]: unchecked MSR access error: WRMSR to 0x122 (tried to write",
            "NEM: WARNING: /proc/sys/kernel/split_lock_mitigate is 1.",
            "sudo: bob : COMMAND=/usr/bin/less arch/x86/split.c",
        ] {
            assert_eq!(Line::read(line.as_bytes()), Line::Other, "{line}");
        }
    }

    #[test]
    fn an_entry_that_is_cut_short_is_damaged() {
        for line in [
            r#"{"MESSAGE":"x86/split lock detection: #AC: a\\/1 took a split_lock trap at address: 0x1"#,
            r#"{"MESSAGE":"x86/split lock detection: disabled"#,
        ] {
            let read = Line::read(line.as_bytes());
            assert!(
                matches!(read, Line::Damaged(_, Damage::CutShort)),
                "{read:?}"
            );
        }
    }

    #[test]
    fn a_program_that_quotes_the_kernel_is_not_the_kernel() {
        for line in [
            "Nov 11 03:49:25 host me[7]: x86/split lock detection: disabled",
            "[    1.500000] me: x86/split lock detection: disabled",
            "Nov 11 03:49:25 host me[7]: saw x86/split lock detection: #AC: a/1",
            "Nov 11 03:49:25 host me[7]: a/1 took a split_lock trap at address: 0x1",
            "Nov 11 03:49:25 host me[7]: unchecked MSR access error: WRMSR to 0x33 (tried to write",
            r#"{"_TRANSPORT":"stdout","MESSAGE":"x86/split lock detection: disabled"}"#,
        ] {
            assert_eq!(Line::read(line.as_bytes()), Line::Foreign, "{line}");
        }
    }
}
