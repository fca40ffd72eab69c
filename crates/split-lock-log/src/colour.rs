//! Colours, as `dmesg --color=always`, `journalctl` on a terminal and `grep --color=always` paint them.

use std::borrow::Cow;

use crate::message::{AC, DB, PREFIX};

pub(crate) const ESCAPE: u8 = 0x1b;

/// The line without colours. A thread's name keeps all of its bytes, escape sequences among them: they are
/// evidence, and cannot be told from paint.
///
/// So the name is left out, which is between the exception and the last slash.
pub(crate) fn without_colours(line: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(ESCAPE, line).is_none() {
        return Cow::Borrowed(line);
    }
    let mut plain = Vec::with_capacity(line.len());
    let rest = copy_until(line, &mut plain, |plain| {
        [AC, DB].iter().any(|exception| {
            let before = plain.strip_suffix(*exception);
            before.is_some_and(|before| before.ends_with(PREFIX))
        })
    });
    let end_of_name = memchr::memrchr(b'/', rest).unwrap_or(0);
    let (name, after) = rest.split_at(end_of_name);
    plain.extend_from_slice(name);
    copy_until(after, &mut plain, |_| false);
    Cow::Owned(plain)
}

/// Copies everything but colours until it is enough, and returns what is left.
fn copy_until<'a>(
    text: &'a [u8],
    plain: &mut Vec<u8>,
    is_enough: impl Fn(&[u8]) -> bool,
) -> &'a [u8] {
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        if let Some(after) = after_colour(rest) {
            rest = after;
            continue;
        }
        plain.push(first);
        rest = after;
        if first == b' ' && is_enough(plain) {
            break;
        }
    }
    rest
}

/// What follows `ESC [ … m`, or the `ESC [ K` by which grep keeps a background from running on.
fn after_colour(text: &[u8]) -> Option<&[u8]> {
    let parameters = text.strip_prefix(&[ESCAPE, b'['])?;
    let is_parameter = |byte: &u8| matches!(byte, b'0'..=b'9' | b';' | b':');
    let end = parameters.iter().position(|byte| !is_parameter(byte))?;
    matches!(parameters[end], b'm' | b'K').then(|| &parameters[end + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_the_name_loses_its_colours() {
        for (line, plain) in [
            (&b"\x1b[32m[    1.5] \x1b[0mLinux"[..], &b"[    1.5] Linux"[..]),
            (
                b"\x1b[33mx86/split lock detection: \x1b[0m\x1b[1m#AC: \x1b[1mCPU 0/KV\x1b[KM/7 took\x1b[m\x1b[K a\x1b[0m",
                b"x86/split lock detection: #AC: \x1b[1mCPU 0/KV\x1b[KM/7 took a",
            ),
            (
                b"\x1b[0;1;38;5;185mx86/split lock detection: \x1b[38:5:185mdisabled\x1b[0m",
                b"x86/split lock detection: disabled",
            ),
            // There is no name.
            (
                b"x86/split lock detection: \x1b[1m#DB: warning\x1b[0m",
                b"x86/split lock detection: #DB: warning",
            ),
            // No colours.
            (b"\x1b[2J\x1b]0;x\x07\x1b[", b"\x1b[2J\x1b]0;x\x07\x1b["),
        ] {
            assert_eq!(
                without_colours(line),
                plain,
                "{}",
                line.escape_ascii()
            );
        }
    }
}
