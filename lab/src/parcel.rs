//! Parcels: named bytes on a serial line, from the booted machine to the lab.
//!
//! A line `parcel NAME LENGTH`, then that many bytes. The line is raw, so nothing is escaped.

use std::io::{self, Write};

/// One named piece of data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// Its name, without spaces.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Sends one.
///
/// # Errors
/// If the line cannot be written to.
pub fn send(line: &mut impl Write, name: &str, bytes: &[u8]) -> io::Result<()> {
    debug_assert!(!name.contains(char::is_whitespace));
    writeln!(line, "parcel {name} {}", bytes.len())?;
    line.write_all(bytes)
}

/// Takes apart what came; a parcel that was cut off is left out.
///
/// ```
/// use split_lock_lab::parcel::{self, Parcel};
///
/// let mut line = Vec::new();
/// parcel::send(&mut line, "first", b"one\ntwo")?;
/// parcel::send(&mut line, "second", b"")?;
/// line.extend(b"parcel third 100\nonly this");
/// let names: Vec<_> = parcel::unpack(&line).into_iter().map(|p| p.name).collect();
/// assert_eq!(names, ["first", "second"]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn unpack(mut line: &[u8]) -> Vec<Parcel> {
    let mut parcels = Vec::new();
    while let Some((parcel, rest)) = first(line) {
        parcels.push(parcel);
        line = rest;
    }
    parcels
}

fn first(line: &[u8]) -> Option<(Parcel, &[u8])> {
    let end = line.iter().position(|&byte| byte == b'\n')?;
    let (header, rest) = (std::str::from_utf8(&line[..end]).ok()?, &line[end + 1..]);
    let (name, length) = header.strip_prefix("parcel ")?.split_once(' ')?;
    let length: usize = length.parse().ok()?;
    let bytes = rest.get(..length)?.to_vec();
    let name = name.to_owned();
    Some((Parcel { name, bytes }, &rest[length..]))
}
