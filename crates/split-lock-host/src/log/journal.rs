//! An entry of the journal as JSON (`journalctl -o json`): one object to a line.

use std::time::Duration;

use serde::Deserialize;

use super::header::Origin;
use super::message::decimal;
use super::{Stamp, Wall};

/// What matters of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) stamp: Stamp,
    pub(super) host: Option<Vec<u8>>,
    pub(super) origin: Origin,
    pub(super) message: Vec<u8>,
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
struct Fields {
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

impl Entry {
    /// `None` if the line is no such entry.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        let line = line.trim_ascii();
        if line.first() != Some(&b'{') {
            return None;
        }
        let fields: Fields = serde_json::from_slice(line).ok()?;
        let text = |field: Option<Field>| field.and_then(Field::bytes);
        let realtime_us = text(fields.realtime_us).filter(|us| decimal(us).is_some());
        let kernel_us = text(fields.kernel_us).and_then(|us| decimal(&us));
        let origin = match text(fields.transport).as_deref() {
            Some(b"kernel") => Origin::Kernel,
            Some(_) => Origin::Program,
            None => Origin::Unsaid,
        };
        Some(Entry {
            stamp: Stamp {
                wall: realtime_us.is_some().then_some(Wall::UnixMicros),
                text: realtime_us.unwrap_or_default(),
                uptime: kernel_us.map(Duration::from_micros),
                since_previous: None,
            },
            host: text(fields.host),
            origin,
            message: text(fields.message)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_as_journalctl_writes_it() {
        let line = br#"{"__REALTIME_TIMESTAMP":"1763823189123456","_HOSTNAME":"h","_TRANSPORT":"kernel","_SOURCE_MONOTONIC_TIMESTAMP":"688792264","MESSAGE":[97,27,255],"_X":["a","b"]}"#;
        let entry = Entry::read(line).unwrap();
        assert_eq!(entry.message, b"a\x1b\xff");
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
