//! From chunks of bytes to records.

use crate::patterns::Patterns;
use crate::{LogStart, MessageCounts, Record, journal};

mod bounded;
mod export;
mod lines;
mod output;
mod pretty;

pub use bounded::MAX_LINE_BYTES;
use export::Export;
use lines::Lines;
use output::ScanOutput;
use pretty::Pretty;

/// The parser, without any I/O: bytes go in with [`feed`](Self::feed), in chunks of any size, and records
/// come out of [`take`](Self::take).
///
/// It keeps a line at most, or what matters of an entry of the journal, and the records that have not been taken.
#[derive(Debug, Default)]
pub struct Scanner {
    format: Option<Format>,
    /// What has come before the format was known.
    first: Vec<u8>,
    output: ScanOutput,
}

/// How the log is written, which its beginning tells.
#[derive(Debug)]
enum Format {
    Lines(Lines),
    Export(Export),
    Pretty(Pretty),
}

/// So much of the first line tells the format.
const HEAD_BYTES: usize = 64;

impl Scanner {
    /// At the beginning of a log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on with the next bytes.
    pub fn feed(&mut self, chunk: &[u8]) {
        if let Some(format) = &mut self.format {
            return format.feed(chunk, &mut self.output);
        }
        self.first.extend_from_slice(chunk);
        if self.first.len() >= HEAD_BYTES || self.first.contains(&b'\n') {
            self.begin();
        }
    }

    /// There are no more bytes. What has not ended by now is damaged.
    pub fn finish(&mut self) {
        if self.format.is_none() {
            self.begin();
        }
        match &mut self.format {
            Some(Format::Lines(lines)) => lines.finish(&mut self.output),
            Some(Format::Export(export)) => export.finish(&mut self.output),
            Some(Format::Pretty(pretty)) => pretty.finish(&mut self.output),
            None => {}
        }
    }

    /// The next record, if there is one already.
    pub fn take(&mut self) -> Option<Record> {
        self.output.records.pop_front()
    }

    /// How many messages there were of each kind.
    #[must_use]
    pub fn counts(&self) -> MessageCounts {
        self.output.counts
    }

    /// Whether the log begins where the kernel does.
    #[must_use]
    pub fn log_start(&self) -> LogStart {
        self.output.log_start.result()
    }

    fn begin(&mut self) {
        let first = std::mem::take(&mut self.first);
        let format = self.format.insert(Format::of(&first));
        format.feed(&first, &mut self.output);
    }
}

impl Format {
    fn of(first: &[u8]) -> Self {
        let line = first.split(|&byte| byte == b'\n').next().unwrap_or(first);
        let head = &line[..line.len().min(HEAD_BYTES)];
        if Export::begins_with(head) {
            Format::Export(Export::new(Patterns::for_text()))
        } else if line.len() < HEAD_BYTES && Pretty::begins_with(line) {
            Format::Pretty(Pretty::new(Patterns::for_json()))
        } else if journal::object(head).is_some() {
            Format::Lines(Lines::new(Patterns::for_json()))
        } else {
            Format::Lines(Lines::new(Patterns::for_text()))
        }
    }

    fn feed(&mut self, chunk: &[u8], output: &mut ScanOutput) {
        match self {
            Format::Lines(lines) => lines.feed(chunk, output),
            Format::Export(export) => export.feed(chunk, output),
            Format::Pretty(pretty) => pretty.feed(chunk, output),
        }
    }
}
