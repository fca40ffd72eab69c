//! From chunks of bytes to records.

use crate::beginning::Beginning;
use crate::journal;
use crate::needles::Needles;
use crate::{Record, Tally};

mod carry;
mod export;
mod findings;
mod lines;
mod pretty;

use export::Export;
use findings::Findings;
pub(crate) use findings::Place;
use lines::Lines;
use pretty::Pretty;

/// Of a longer line only the beginning is looked at; the kernel's have a few hundred bytes.
pub const MAX_LINE_BYTES: usize = 64 << 10;

/// The parser, without any I/O: bytes go in with [`feed`](Self::feed), in chunks of any size, and records
/// come out of [`take`](Self::take).
///
/// It keeps a line at most, or what matters of an entry of the journal, and the records that have not been taken.
#[derive(Debug, Default)]
pub struct Scanner {
    form: Option<Form>,
    /// What has come before the form was known.
    first: Vec<u8>,
    findings: Findings,
}

/// How the log is written, which its beginning tells.
#[derive(Debug)]
enum Form {
    Lines(Lines),
    Export(Export),
    Pretty(Pretty),
}

/// So much of the first line tells the form.
const HEAD_BYTES: usize = 64;

impl Scanner {
    /// At the beginning of a log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on with the next bytes.
    pub fn feed(&mut self, chunk: &[u8]) {
        match &mut self.form {
            Some(form) => form.feed(chunk, &mut self.findings),
            None => {
                self.first.extend_from_slice(chunk);
                let newline = memchr::memchr(b'\n', &self.first);
                if newline.is_some() || self.first.len() >= HEAD_BYTES {
                    self.begin();
                }
            }
        }
    }

    /// There are no more bytes. What has not ended by now is damaged.
    pub fn finish(&mut self) {
        if self.form.is_none() {
            self.begin();
        }
        if let Some(form) = &mut self.form {
            form.finish(&mut self.findings);
        }
    }

    /// The next record, if there is one already.
    pub fn take(&mut self) -> Option<Record> {
        self.findings.records.pop_front()
    }

    /// How many there were of each kind.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.findings.tally
    }

    /// Lines of programs that have one of the messages in them, and are no records.
    #[must_use]
    pub fn foreign_lines(&self) -> u64 {
        self.findings.foreign_lines
    }

    /// Whether the log begins where the kernel does.
    #[must_use]
    pub fn beginning(&self) -> Beginning {
        self.findings.judge.verdict()
    }

    fn begin(&mut self) {
        let first = std::mem::take(&mut self.first);
        let form = self.form.insert(Form::of(&first));
        form.feed(&first, &mut self.findings);
    }
}

impl Form {
    fn of(first: &[u8]) -> Self {
        let line = first.split(|&byte| byte == b'\n').next().unwrap_or(first);
        let head = &line[..line.len().min(HEAD_BYTES)];
        if Export::begins_with(head) {
            Form::Export(Export::new(Needles::for_text()))
        } else if line.len() < HEAD_BYTES && Pretty::begins_with(line) {
            Form::Pretty(Pretty::new(Needles::for_json()))
        } else if journal::object(head).is_some() {
            Form::Lines(Lines::new(Needles::for_json()))
        } else {
            Form::Lines(Lines::new(Needles::for_text()))
        }
    }

    fn feed(&mut self, chunk: &[u8], findings: &mut Findings) {
        match self {
            Form::Lines(lines) => lines.feed(chunk, findings),
            Form::Export(export) => export.feed(chunk, findings),
            Form::Pretty(pretty) => pretty.feed(chunk, findings),
        }
    }

    fn finish(&mut self, findings: &mut Findings) {
        match self {
            Form::Lines(lines) => lines.finish(findings),
            Form::Export(export) => export.finish(findings),
            Form::Pretty(pretty) => pretty.finish(findings),
        }
    }
}
