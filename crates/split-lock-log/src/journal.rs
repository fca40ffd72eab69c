//! Entries of the journal: what matters of them, and how it is read from JSON in one line (`journalctl -o json`).

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::header::Origin;
use crate::message::decimal;
use crate::{Stamp, WallFormat};

/// What matters of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) stamp: Stamp,
    pub(crate) host: Option<Vec<u8>>,
    pub(crate) origin: Origin,
    pub(crate) message: Vec<u8>,
}

/// The fields that matter, whatever form the entry comes in. Of each the first value, as bytes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Fields {
    #[serde(rename = "MESSAGE", deserialize_with = "bytes")]
    message: Option<Vec<u8>>,
    #[serde(rename = "_TRANSPORT", deserialize_with = "bytes")]
    transport: Option<Vec<u8>>,
    #[serde(rename = "_HOSTNAME", deserialize_with = "bytes")]
    host: Option<Vec<u8>>,
    #[serde(rename = "__REALTIME_TIMESTAMP", deserialize_with = "bytes")]
    realtime_us: Option<Vec<u8>>,
    #[serde(rename = "_SOURCE_MONOTONIC_TIMESTAMP", deserialize_with = "bytes")]
    kernel_us: Option<Vec<u8>>,
    /// Then only its beginning is kept.
    #[serde(skip)]
    pub(crate) message_is_too_long: bool,
}

/// In JSON a field is a string; what is no text is an array of bytes.
fn bytes<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Vec<u8>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Field {
        Text(String),
        Bytes(Vec<u8>),
        /// Such as several values, or one that is too large to be printed.
        Other(serde::de::IgnoredAny),
    }
    Ok(match Field::deserialize(field)? {
        Field::Text(text) => Some(text.into_bytes()),
        Field::Bytes(bytes) => Some(bytes),
        Field::Other(_) => None,
    })
}

impl Fields {
    /// Keeps a value, if the field matters and has none yet.
    pub(crate) fn put(&mut self, name: &[u8], value: &[u8], is_too_long: bool) {
        let field = match name {
            b"MESSAGE" => &mut self.message,
            b"_TRANSPORT" => &mut self.transport,
            b"_HOSTNAME" => &mut self.host,
            b"__REALTIME_TIMESTAMP" => &mut self.realtime_us,
            b"_SOURCE_MONOTONIC_TIMESTAMP" => &mut self.kernel_us,
            _ => return,
        };
        if field.is_none() {
            *field = Some(value.to_vec());
            self.message_is_too_long |= is_too_long && name == b"MESSAGE";
        }
    }

    /// `None` if there is no message.
    pub(crate) fn entry(self) -> Option<Entry> {
        let realtime_us = self.realtime_us.filter(|us| decimal(us).is_some());
        let kernel_us = self.kernel_us.and_then(|us| decimal(&us));
        let origin = match self.transport.as_deref() {
            Some(b"kernel") => Origin::Kernel,
            Some(_) => Origin::Program,
            None => Origin::Unknown,
        };
        Some(Entry {
            stamp: Stamp {
                wall: realtime_us.is_some().then_some(WallFormat::UnixMicros),
                text: realtime_us.unwrap_or_default(),
                uptime: kernel_us.map(Duration::from_micros),
                since_previous: None,
            },
            host: self.host,
            origin,
            message: self.message?,
        })
    }
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

/// What a line is as JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JsonLine {
    Entry(Entry),
    /// An object that has no end, or is damaged otherwise.
    Broken,
    /// No object, or none with a message.
    Other,
}

impl JsonLine {
    pub(crate) fn read(line: &[u8]) -> Self {
        let Some(object) = object(line).filter(|object| object.starts_with(b"{\"")) else {
            return JsonLine::Other;
        };
        match serde_json::from_slice::<Fields>(object) {
            Ok(fields) => fields.entry().map_or(JsonLine::Other, JsonLine::Entry),
            Err(error) if error.is_data() => JsonLine::Other,
            Err(_) => JsonLine::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_as_journalctl_writes_it() {
        let line = br#"{"__REALTIME_TIMESTAMP":"1763823189123456","_HOSTNAME":"h","_TRANSPORT":"kernel","_SOURCE_MONOTONIC_TIMESTAMP":"688792264","MESSAGE":[97,27,255],"_X":["a","b"]}"#;
        let JsonLine::Entry(entry) = JsonLine::read(line) else {
            panic!("no entry");
        };
        assert_eq!(entry.message, b"a\x1b\xff");
        for before in BEFORE_JSON {
            let line = [before, &line[..], b"\r"].concat();
            assert_eq!(JsonLine::read(&line), JsonLine::Entry(entry.clone()));
        }
        assert_eq!(entry.stamp.uptime, Some(Duration::from_micros(688_792_264)));
        assert_eq!(
            (entry.stamp.wall, &entry.stamp.text[..]),
            (Some(WallFormat::UnixMicros), &b"1763823189123456"[..])
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
            "{x86/split lock detection: disabled}",
        ] {
            assert_eq!(JsonLine::read(line.as_bytes()), JsonLine::Other, "{line}");
        }
    }

    #[test]
    fn an_entry_without_its_end_is_broken() {
        for line in [r#"{"MESSAGE":"a"#, r#"{"MESSAGE":"a"}}"#, r#"{"MESSAGE":"#] {
            assert_eq!(JsonLine::read(line.as_bytes()), JsonLine::Broken, "{line}");
        }
    }
}
