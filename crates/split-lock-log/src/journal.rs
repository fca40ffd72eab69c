//! Entries of the journal: what matters of them.

use std::time::Duration;

use crate::header::Origin;
use crate::message::decimal;
use crate::{Stamp, WallFormat};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) stamp: Stamp,
    pub(crate) host: Option<Vec<u8>>,
    pub(crate) origin: Origin,
    pub(crate) message: Vec<u8>,
}

/// The fields that matter, as bytes. Of each the first value.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    message: Option<Vec<u8>>,
    transport: Option<Vec<u8>>,
    host: Option<Vec<u8>>,
    realtime_us: Option<Vec<u8>>,
    kernel_us: Option<Vec<u8>>,
    /// Then only its beginning is kept.
    pub(crate) message_is_too_long: bool,
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
