//! From chunks of bytes to records.

use std::borrow::Cow;

use crate::json;
use crate::patterns::Patterns;
use crate::{LogStart, MessageCounts, Record};

mod bounded;
mod document;
mod export;
mod lines;
mod output;
mod verbose;

pub use bounded::MAX_LINE_BYTES;
use document::Document;
use export::Export;
use lines::Lines;
use output::ScanOutput;
use verbose::Verbose;

/// The parser, without any I/O: bytes go in with [`feed`](Self::feed), in chunks of any size, and records
/// come out of [`take`](Self::take).
///
/// It keeps a line at most, or what matters of an entry of the journal, and the records that have not been taken.
#[derive(Debug, Default)]
pub struct Scanner {
    format: Option<Format>,
    /// What has come before the format was known.
    first: Vec<u8>,
    /// Lines end in a carriage return alone.
    has_old_ends: bool,
    output: ScanOutput,
}

/// How the log is written, which its beginning tells.
#[derive(Debug)]
enum Format {
    Lines(Lines),
    Export(Export),
    Document(Document),
    Verbose(Verbose),
}

impl Scanner {
    /// At the beginning of a log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on with the next bytes.
    pub fn feed(&mut self, chunk: &[u8]) {
        if self.format.is_some() {
            return self.go_on(chunk);
        }
        // The first line that has something in it tells how the log is written.
        self.first.extend_from_slice(chunk);
        let is_told = self.first.trim_ascii_start().contains(&b'\n');
        if is_told || self.first.len() >= MAX_LINE_BYTES {
            self.begin();
        }
    }

    fn go_on(&mut self, chunk: &[u8]) {
        let Some(format) = &mut self.format else {
            return;
        };
        let mut chunk = Cow::Borrowed(chunk);
        if self.has_old_ends {
            let ends = chunk.to_mut().iter_mut().filter(|byte| **byte == b'\r');
            ends.for_each(|byte| *byte = b'\n');
        }
        format.feed(&chunk, &mut self.output);
    }

    /// Nothing more is there for now, so what waits for the next line is given, unless its width says that it goes on there.
    pub fn flush(&mut self) {
        if let Some(Format::Lines(lines)) = &mut self.format {
            lines.flush(&mut self.output);
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
            Some(Format::Document(document)) => document.finish(&mut self.output),
            Some(Format::Verbose(verbose)) => verbose.finish(&mut self.output),
            None => {}
        }
        self.output.end_oops();
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
        let head = &first[..first.len().min(MAX_LINE_BYTES)];
        self.has_old_ends = !head.contains(&b'\n') && head.contains(&b'\r');
        self.format = Some(Format::of(head));
        self.go_on(&first);
    }
}

impl Format {
    fn of(head: &[u8]) -> Self {
        let head = head.trim_ascii_start();
        let line = head.split(|&byte| byte == b'\n').next().unwrap_or(head);
        if Export::begins_with(line) {
            Format::Export(Export::new(Patterns::for_text()))
        } else if Verbose::begins_with(line) {
            Format::Verbose(Verbose::new(Patterns::for_text()))
        } else if Document::begins_with(line) {
            Format::Document(Document::new(Patterns::for_json()))
        } else if json::value_in(line).is_some() {
            Format::Lines(Lines::new(Patterns::for_json()))
        } else {
            Format::Lines(Lines::new(Patterns::for_text()))
        }
    }

    fn feed(&mut self, chunk: &[u8], output: &mut ScanOutput) {
        match self {
            Format::Lines(lines) => lines.feed(chunk, output),
            Format::Export(export) => export.feed(chunk, output),
            Format::Document(document) => document.feed(chunk, output),
            Format::Verbose(verbose) => verbose.feed(chunk, output),
        }
    }
}
