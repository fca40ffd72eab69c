//! Bundles: named bytes on a serial line, from the booted machine to the lab.
//!
//! A line `bundle NAME LENGTH`, then that many bytes. The line is raw, so nothing is escaped.

use std::collections::BTreeMap;
use std::io::{self, Write};

/// What came, by name.
pub type Bundles = BTreeMap<String, Vec<u8>>;

/// Sends one.
///
/// # Errors
/// If the line cannot be written to.
pub fn send(line: &mut impl Write, name: &str, bytes: &[u8]) -> io::Result<()> {
    debug_assert!(!name.contains(char::is_whitespace));
    writeln!(line, "bundle {name} {}", bytes.len())?;
    line.write_all(bytes)
}

/// Takes apart what came; a bundle that was cut off is left out.
///
/// ```
/// use split_lock_lab::bundle;
///
/// let mut line = Vec::new();
/// bundle::send(&mut line, "first", b"one\ntwo")?;
/// bundle::send(&mut line, "second", b"")?;
/// line.extend(b"bundle third 100\nonly this");
/// let names: Vec<_> = bundle::unpack(&line).into_keys().collect();
/// assert_eq!(names, ["first", "second"]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn unpack(mut line: &[u8]) -> Bundles {
    let next = || {
        let end = line.iter().position(|&byte| byte == b'\n')?;
        let (header, rest) = (std::str::from_utf8(&line[..end]).ok()?, &line[end + 1..]);
        let (name, length) = header.strip_prefix("bundle ")?.split_once(' ')?;
        let (bytes, rest) = rest.split_at_checked(length.parse().ok()?)?;
        line = rest;
        Some((name.to_owned(), bytes.to_vec()))
    };
    std::iter::from_fn(next).collect()
}
