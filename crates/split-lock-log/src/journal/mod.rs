//! Entries of the journal: what matters of them, and how it is read from JSON in one line (`journalctl -o json`).

use serde::Deserialize;

use crate::Stamp;
use crate::header::Origin;

mod fields;

pub(crate) use fields::Fields;

/// What matters of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) stamp: Stamp,
    pub(crate) host: Option<Vec<u8>>,
    pub(crate) origin: Origin,
    pub(crate) message: Vec<u8>,
}

/// A field is a string; what is no text is an array of bytes.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Field {
    Text(String),
    Bytes(Vec<u8>),
    /// Such as several values, or one that is too large to be printed.
    Other(serde::de::IgnoredAny),
}

impl Field {
    fn bytes(self) -> Option<Vec<u8>> {
        match self {
            Field::Text(text) => Some(text.into_bytes()),
            Field::Bytes(bytes) => Some(bytes),
            Field::Other(_) => None,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Json {
    #[serde(rename = "MESSAGE")]
    message: Option<Field>,
    #[serde(rename = "_TRANSPORT")]
    transport: Option<Field>,
    #[serde(rename = "_HOSTNAME")]
    host: Option<Field>,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    realtime_us: Option<Field>,
    #[serde(rename = "_SOURCE_MONOTONIC_TIMESTAMP")]
    kernel_us: Option<Field>,
}

/// What stands before an object in a sequence (`-o json-seq`), and in a stream of events (`-o json-sse`).
const BEFORE_JSON: [&[u8]; 2] = [b"\x1e", b"data: "];

/// The object in a line, or in a beginning of one, if it has one.
pub(crate) fn object(line: &[u8]) -> Option<&[u8]> {
    let line = line.trim_ascii();
    let mut before = BEFORE_JSON.iter();
    let line = before
        .find_map(|mark| line.strip_prefix(*mark))
        .unwrap_or(line);
    line.starts_with(b"{").then_some(line)
}

impl Entry {
    /// `None` if the line is no such entry.
    pub(crate) fn read(line: &[u8]) -> Option<Self> {
        let json: Json = serde_json::from_slice(object(line)?).ok()?;
        let bytes = |field: Option<Field>| field.and_then(Field::bytes);
        let fields = Fields {
            message: bytes(json.message),
            transport: bytes(json.transport),
            host: bytes(json.host),
            realtime_us: bytes(json.realtime_us),
            kernel_us: bytes(json.kernel_us),
        };
        fields.entry()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Wall;

    #[test]
    fn an_entry_as_journalctl_writes_it() {
        let line = br#"{"__REALTIME_TIMESTAMP":"1763823189123456","_HOSTNAME":"h","_TRANSPORT":"kernel","_SOURCE_MONOTONIC_TIMESTAMP":"688792264","MESSAGE":[97,27,255],"_X":["a","b"]}"#;
        let entry = Entry::read(line).unwrap();
        assert_eq!(entry.message, b"a\x1b\xff");
        for before in BEFORE_JSON {
            let line = [before, &line[..], b"\r"].concat();
            assert_eq!(Entry::read(&line).as_ref(), Some(&entry));
        }
        assert_eq!(entry.stamp.uptime, Some(Duration::from_micros(688_792_264)));
        assert_eq!(
            (entry.stamp.wall, &entry.stamp.text[..]),
            (Some(Wall::UnixMicros), &b"1763823189123456"[..])
        );
        assert_eq!(
            (entry.host.as_deref(), entry.origin),
            (Some(&b"h"[..]), Origin::Kernel)
        );
    }

    #[test]
    fn everything_else_is_no_entry() {
        for line in [
            "",
            "{",
            "[1]",
            r#"{"MESSAGE":null}"#,
            r#"{"MESSAGE":["a","b"]}"#,
            "{}",
        ] {
            assert_eq!(Entry::read(line.as_bytes()), None, "{line}");
        }
    }
}
