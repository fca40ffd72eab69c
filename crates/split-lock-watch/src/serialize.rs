//! Numbers as the JSON of snapshots has them.

use std::time::Duration;

use serde::{Serialize, Serializer};

pub(crate) fn nanos<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
    maybe_nanos(&Some(*span), to)
}

pub(crate) fn maybe_nanos<S: Serializer>(
    span: &Option<Duration>,
    to: S,
) -> Result<S::Ok, S::Error> {
    let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    span.map(nanos).serialize(to)
}

pub(crate) fn hexadecimal<S: Serializer>(address: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
    address.map(|address| format!("{address:#x}")).serialize(to)
}
