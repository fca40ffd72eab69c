//! One line: does it hold one of the messages, and whole?

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::colour::without_colours;
use crate::header::{Header, Origin};
use crate::journal::Entry;
use crate::json::JsonLine;
use crate::message::{
    AC, DB, END_OF_REFUSED_WRITE, ENDS_OF_TRAPS, Ending, LINUX_VERSION, OPENINGS, Opening, PREFIX,
    Parsed, REFUSED_WRITE, alignment, hexadecimal_digits, traps,
};
use crate::oops::{self, Collector};
use crate::patterns::Patterns;
use crate::{Damage, Message};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// None of the messages.
    Other,
    /// One of the messages, or something that quotes it, in a line that a program has written.
    Foreign,
    Whole(Header, Message, Ending),
    /// The first line of an oops, with what is to be read of it.
    Oops(Header, Collector),
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
    /// All that a line holds: a line of JSON, or one into which others have run, may hold several messages.
    pub(crate) fn each(line: &[u8], patterns: &Patterns, mut found: impl FnMut(Self)) {
        match JsonLine::read(line, patterns) {
            JsonLine::Entries(entries) => {
                for entry in entries {
                    Self::each_of_entry(&entry, &mut found);
                }
            }
            JsonLine::Broken => Self::each_of_text(line, |line| found(line.without_end())),
            JsonLine::Other => Self::each_of_text(line, found),
        }
    }

    /// Without its end nobody knows what of it is escaped, and how much is missing.
    fn without_end(self) -> Self {
        match self {
            Line::Whole(header, ..) | Line::Partial(header, Certainty::Certain) => {
                Line::Damaged(header, Damage::CutShort)
            }
            Line::Partial(_, Certainty::Possible) => Line::Other,
            line => line,
        }
    }

    pub(crate) fn each_of_entry(entry: &Entry, mut found: impl FnMut(Self)) {
        // What is beside the message says more than what is in front of it.
        let with = |mut header: Header| {
            let (beside, stamp) = (&entry.stamp, &mut header.stamp);
            if !beside.is_empty() {
                stamp.text.clone_from(&beside.text);
                stamp.wall = beside.wall;
            }
            stamp.uptime = beside.uptime.or(stamp.uptime);
            header.host = entry.host.clone().or(header.host);
            header
        };
        Self::each_of_text(&entry.message, |line| {
            found(match line {
                Line::Other => Line::Other,
                _ if entry.origin == Origin::Program => Line::Foreign,
                Line::Foreign => Line::Foreign,
                Line::Whole(header, message, _) => {
                    Line::Whole(with(header), message, Ending::default())
                }
                Line::Oops(header, collector) => Line::Oops(with(header), collector),
                // An entry is not wrapped.
                Line::Partial(header, Certainty::Certain) => {
                    Line::Damaged(with(header), Damage::CutShort)
                }
                Line::Partial(_, Certainty::Possible) => Line::Other,
                Line::Damaged(header, damage) => Line::Damaged(with(header), damage),
            });
        });
    }

    /// All that a text holds. Serial lines may end in a carriage return alone, and then look like one.
    pub(crate) fn each_of_text(text: &[u8], mut found: impl FnMut(Self)) {
        let text = text.trim_ascii_end();
        let mut parts = text.split(|&byte| byte == b'\r');
        if memchr::memchr(b'\r', text).is_some()
            && parts.any(|part| matches!(Self::of_text(part), Line::Whole(..)))
        {
            for part in text.split(|&byte| byte == b'\r') {
                Self::each_in_a_row(part, &mut found);
            }
        } else {
            Self::each_in_a_row(text, found);
        }
    }

    /// A message, and what is behind it.
    fn each_in_a_row(text: &[u8], mut found: impl FnMut(Self)) {
        let mut text = Cow::Borrowed(text);
        loop {
            let line = Self::of_text(&text);
            let behind = match &line {
                Line::Whole(header, _, ending) if !header.is_escaped => ending.behind,
                _ => 0,
            };
            found(line);
            let plain = plain(&text);
            let rest = &plain[plain.len() - behind.min(plain.len())..];
            if rest.is_empty() || find(rest).is_none() {
                return;
            }
            text = Cow::Owned(rest.to_vec());
        }
    }

    pub(crate) fn of_text(text: &[u8]) -> Self {
        let line = &*plain(text);
        let Some((start, opening, body)) = find(line) else {
            return Self::without_beginning(line);
        };
        let (mut header, rest) = Header::read_before_message(&line[..start]);
        // The kernel's message would begin here, and this is somebody's who mentions it.
        if !header.stamp.is_empty() && rest.trim_ascii_end().ends_with(b":") {
            header.origin = Origin::Program;
        }
        let parsed = match header.is_escaped {
            true => parse_or_begin(opening, &unescape(body)),
            false => parse_or_begin(opening, body),
        };
        Self::of_parsed(header, parsed)
    }

    fn of_parsed(header: Header, parsed: Parsed) -> Self {
        match parsed {
            Parsed::NotOurs => Line::Other,
            _ if header.origin == Origin::Program => Line::Foreign,
            Parsed::Whole(message, ending) => Line::Whole(header, message, ending),
            Parsed::CutShort => Line::Partial(header, Certainty::Certain),
            Parsed::MaybeCutShort => Line::Partial(header, Certainty::Possible),
            Parsed::Garbled => Line::Damaged(header, Damage::Garbled),
        }
    }

    fn without_beginning(line: &[u8]) -> Self {
        if let Some(line) = Self::of_trap_without_prefix(line)
            .or_else(|| Self::of_alignment_signal(line))
            .or_else(|| Self::of_oops(line))
        {
            return line;
        }
        let (header, rest) = Header::read(line);
        if let Some(release) = rest.strip_prefix(LINUX_VERSION)
            && header.origin != Origin::Program
        {
            // Who built it follows in parentheses.
            if let Some(end) = memchr::memmem::find(release, b" (") {
                let release = release[..end].to_vec();
                return Line::Whole(header, Message::Started { release }, Ending::default());
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

    /// A logger has taken the prefix for a tag, or somebody has left it out.
    fn of_trap_without_prefix(line: &[u8]) -> Option<Self> {
        let starts = |words| memchr::memmem::find(line, words);
        ENDS_OF_TRAPS.into_iter().find_map(starts)?;
        let start = [AC, DB].into_iter().filter_map(starts).min()?;
        let (mut header, rest) = Header::read_before_message(&line[..start]);
        let parsed = traps(&line[start..])?;
        // Something else is in its place: what is left of it, or another's words.
        if !rest.is_empty() || header.is_escaped || !matches!(parsed, Parsed::Whole(..)) {
            return None;
        }
        header.lacks_prefix = true;
        Some(Self::of_parsed(header, parsed))
    }

    fn of_alignment_signal(line: &[u8]) -> Option<Self> {
        let middle = memchr::memmem::find(line, alignment::MIDDLE)?;
        let start = memchr::memmem::find(&line[..middle], alignment::BEFORE)?;
        let (header, _) = Header::read_before_message(&line[..start]);
        let body = &line[start + alignment::BEFORE.len()..];
        let parsed = match header.is_escaped {
            true => alignment::parse(&unescape(body)),
            false => alignment::parse(body),
        };
        Some(Self::of_parsed(header, parsed))
    }

    fn of_oops(line: &[u8]) -> Option<Self> {
        memchr::memmem::find(line, oops::SPLIT_LOCK_DETECTED)?;
        let (header, rest) = Header::read(line);
        oops::begins(rest).then(|| match header.origin {
            Origin::Program => Line::Foreign,
            _ => Line::Oops(header, Collector::new(rest)),
        })
    }
}

/// Without colours, and without what a page on the web puts in the place of some characters.
fn plain(text: &[u8]) -> Cow<'_, [u8]> {
    let text = without_spans(without_colours(text));
    if memchr::memchr2(b'&', b'\\', &text).is_none() {
        return text;
    }
    const ESCAPES: [(&[u8], u8); 12] = [
        (b"&#x2F;", b'/'),
        (b"&#x2f;", b'/'),
        (b"&#47;", b'/'),
        (b"&sol;", b'/'),
        (br"\/", b'/'),
        (b"&num;", b'#'),
        (b"&#35;", b'#'),
        (b"&#x23;", b'#'),
        (b"&colon;", b':'),
        (b"&#58;", b':'),
        (b"&nbsp;", b' '),
        (b"&#160;", b' '),
    ];
    // Only a prefix that is written so: a name keeps its bytes.
    let is_escaped = ESCAPES
        .iter()
        .any(|(escape, _)| memchr::memmem::find(&text, escape).is_some());
    if !is_escaped || find(&text).is_some() {
        return text;
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = &text[..];
    while let [first, after @ ..] = rest {
        let escape = ESCAPES.iter().find(|(escape, _)| rest.starts_with(escape));
        let (byte, after) = escape.map_or((*first, after), |(escape, byte)| {
            (*byte, &rest[escape.len()..])
        });
        plain.push(byte);
        rest = after;
    }
    Cow::Owned(plain)
}

/// Without the marks that a page on the web puts around parts of a line.
fn without_spans(text: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    const END: &[u8] = b"</span>";
    if memchr::memchr(b'<', &text).is_none() || memchr::memmem::find(&text, END).is_none() {
        return text;
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = &text[..];
    while let Some(start) = memchr::memchr(b'<', rest) {
        plain.extend_from_slice(&rest[..start]);
        rest = &rest[start..];
        let after = rest.strip_prefix(END).or_else(|| {
            let inside = rest.strip_prefix(b"<span")?;
            Some(&inside[memchr::memchr(b'>', inside)? + 1..])
        });
        rest = after.unwrap_or_else(|| {
            plain.push(b'<');
            &rest[1..]
        });
    }
    plain.extend_from_slice(rest);
    Cow::Owned(plain)
}

/// `[ 11-22 14:53:09.123     0:    0 W/x86/split lock detection ]`: Android's long form has a line for what stands before
/// a message. Returned as other loggers write it.
pub(crate) fn android_long_header(line: &[u8]) -> Option<Vec<u8>> {
    let inside = line.trim_ascii().strip_prefix(b"[ ")?.strip_suffix(b" ]")?;
    let (before, tag) = (
        inside.split(|&byte| byte == b'/').next()?,
        PREFIX.strip_suffix(b": ")?,
    );
    inside.ends_with(tag).then_some(())?;
    let words = before
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let time: Vec<&[u8]> = words.take(2).collect();
    Some([&time.join(&b' ')[..], b" ", tag, b":"].concat())
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
        let certainty = match begun.starts_with(CERTAIN) {
            true => Certainty::Certain,
            false => Certainty::Possible,
        };
        whole.starts_with(begun).then_some((start, certainty))
    })
}

/// Without the mark by which a mail program says that the line goes on (quoted-printable).
pub(crate) fn without_soft_break(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"=").unwrap_or(line)
}

/// `/dev/kmsg` writes bytes that are not printable as `\x1b`, and so a backslash.
pub(crate) fn unescape(text: &[u8]) -> Vec<u8> {
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
mod tests;
