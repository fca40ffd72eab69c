//! Events for programs: the same fields in JSON and CSV.

use std::borrow::Cow;

use anyhow::Result;
use serde::Serialize;
use split_lock_log::{Message, Record};
use split_lock_report::text::plain;

use super::words;

/// One record. Its fields' names and order are an interface.
#[derive(Debug, Serialize)]
pub(super) struct Entry<'a> {
    file: &'a str,
    line: u64,
    lines: u8,
    offset: u64,
    event: &'static str,
    /// As it is written.
    time: Option<Cow<'a, str>>,
    /// How it is written.
    clock: Option<&'static str>,
    uptime_s: Option<f64>,
    host: Option<Cow<'a, str>>,
    caller: Option<String>,
    exception: Option<&'static str>,
    comm: Option<Cow<'a, str>>,
    /// Where it is no UTF-8: its bytes.
    comm_hex: Option<String>,
    tid: Option<u32>,
    address: Option<String>,
    suppressed: Option<u64>,
    detail: Option<String>,
}

impl<'a> Entry<'a> {
    pub(super) fn of(file: &'a str, record: &'a Record) -> Self {
        let stamp = &record.stamp;
        let text = |bytes: &'a [u8]| String::from_utf8_lossy(bytes);
        let trap = match &record.message {
            Message::Trap(trap) => Some(trap),
            _ => None,
        };
        let uptime = stamp.uptime.map(|_| "uptime");
        let since = stamp.since_previous.map(|_| "since_previous");
        Entry {
            file,
            line: record.line,
            lines: record.lines,
            offset: record.offset,
            event: words::event(&record.message),
            time: (!stamp.is_empty()).then(|| text(&stamp.text)),
            clock: stamp.wall.map(words::clock).or(uptime).or(since),
            uptime_s: stamp.uptime.map(|uptime| uptime.as_secs_f64()),
            host: record.host.as_deref().map(text),
            caller: record.caller.map(words::caller),
            exception: words::exception(&record.message),
            comm: trap.map(|trap| text(&trap.comm)),
            comm_hex: trap.and_then(|trap| hex_unless_text(&trap.comm)),
            tid: trap.map(|trap| trap.tid),
            address: trap.map(|trap| format!("{:#x}", trap.address)),
            suppressed: match &record.message {
                Message::Suppressed(suppressed) => Some(suppressed.count),
                _ => None,
            },
            detail: words::detail(&record.message),
        }
    }

    /// One line. Control characters are escaped, those that JSON would allow as well.
    pub(super) fn json(&self) -> Result<String> {
        let text = serde_json::to_string(self)?;
        let escaped = |c: char| match c {
            c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        };
        Ok(text.chars().map(escaped).chain(["\n".to_owned()]).collect())
    }

    /// One line, too: control characters are replaced, newlines among them.
    pub(super) fn csv(&self) -> Result<String> {
        let line = csv_line(|writer| writer.serialize(self))?;
        Ok(format!("{}\n", plain(line.trim_end_matches('\n'))))
    }
}

pub(super) fn csv_heading() -> Result<String> {
    let fields = [
        "file",
        "line",
        "lines",
        "offset",
        "event",
        "time",
        "clock",
        "uptime_s",
        "host",
        "caller",
        "exception",
        "comm",
        "comm_hex",
        "tid",
        "address",
        "suppressed",
        "detail",
    ];
    csv_line(|writer| writer.write_record(fields))
}

fn csv_line(write: impl FnOnce(&mut csv::Writer<Vec<u8>>) -> csv::Result<()>) -> Result<String> {
    let mut writer = csv::WriterBuilder::new()
        .has_headers(false)
        .from_writer(vec![]);
    write(&mut writer)?;
    Ok(String::from_utf8(writer.into_inner()?)?)
}

fn hex_unless_text(bytes: &[u8]) -> Option<String> {
    let hex = || bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    std::str::from_utf8(bytes).is_err().then(hex)
}
