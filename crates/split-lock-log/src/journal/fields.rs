//! The fields of an entry that matter here, whatever form it comes in.

use std::time::Duration;

use super::Entry;
use crate::header::Origin;
use crate::message::decimal;
use crate::{Stamp, Wall};

/// Of each field the first value, as bytes.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    pub(super) message: Option<Vec<u8>>,
    pub(super) transport: Option<Vec<u8>>,
    pub(super) host: Option<Vec<u8>>,
    pub(super) realtime_us: Option<Vec<u8>>,
    pub(super) kernel_us: Option<Vec<u8>>,
}

impl Fields {
    /// The place for the field of this name, if it matters.
    pub(crate) fn named(&mut self, name: &[u8]) -> Option<&mut Option<Vec<u8>>> {
        Some(match name {
            b"MESSAGE" => &mut self.message,
            b"_TRANSPORT" => &mut self.transport,
            b"_HOSTNAME" => &mut self.host,
            b"__REALTIME_TIMESTAMP" => &mut self.realtime_us,
            b"_SOURCE_MONOTONIC_TIMESTAMP" => &mut self.kernel_us,
            _ => return None,
        })
    }

    /// `None` if there is no message.
    pub(crate) fn entry(self) -> Option<Entry> {
        let realtime_us = self.realtime_us.filter(|us| decimal(us).is_some());
        let kernel_us = self.kernel_us.and_then(|us| decimal(&us));
        let origin = match self.transport.as_deref() {
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
            host: self.host,
            origin,
            message: self.message?,
        })
    }
}
