//! `journalctl -o verbose`: a line with the time of each entry, and its fields below, indented.

use super::bounded::BoundedBuffer;
use super::output::ScanOutput;
use crate::header::Header;
use crate::journal::Fields;
use crate::patterns::Patterns;
use crate::position::Position;

#[derive(Debug)]
pub(super) struct Verbose {
    patterns: Patterns,
    /// The line that has begun.
    line: BoundedBuffer,
    line_start: Position,
    /// The time of the entry, where it begins, and its fields.
    entry: Option<(Header, Position, Fields)>,
}

impl Verbose {
    pub(super) fn new(patterns: Patterns) -> Self {
        Verbose {
            patterns,
            line: BoundedBuffer::default(),
            line_start: Position::START,
            entry: None,
        }
    }

    /// Whether a log that begins with this line is one: a time, and a place in the journal.
    pub(super) fn begins_with(line: &[u8]) -> bool {
        let (header, rest) = Header::read(line);
        !header.stamp.is_empty() && rest.starts_with(b"[s=")
    }

    pub(super) fn feed(&mut self, chunk: &[u8], output: &mut ScanOutput) {
        let mut rest = chunk;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.line.push(&rest[..end]);
            rest = &rest[end + 1..];
            self.end_line(output);
        }
        self.line.push(rest);
    }

    pub(super) fn finish(&mut self, output: &mut ScanOutput) {
        self.end_line(output);
        self.end_entry(output);
    }

    fn end_line(&mut self, output: &mut ScanOutput) {
        let is_too_long = self.line.is_too_long();
        let line = self.line.kept();
        let field = line.strip_prefix(b"    ");
        if let (Some(text), Some((.., fields))) = (field, &mut self.entry) {
            if let Some(equals) = memchr::memchr(b'=', text) {
                let (name, value) = (&text[..equals], &text[equals + 1..]);
                let value = value.strip_suffix(b"\r").unwrap_or(value);
                fields.put(name, value, is_too_long);
            }
        } else if Self::begins_with(line) {
            let header = Header::read(line).0;
            self.end_entry(output);
            self.entry = Some((header, self.line_start, Fields::default()));
        }
        self.line_start.advance_line(self.line.bytes());
        self.line.clear();
    }

    fn end_entry(&mut self, output: &mut ScanOutput) {
        let Some((header, position, fields)) = self.entry.take() else {
            return;
        };
        let is_too_long = fields.message_is_too_long;
        let Some(mut entry) = fields.entry() else {
            return;
        };
        if entry.stamp.wall.is_none() {
            (entry.stamp.wall, entry.stamp.text) = (header.stamp.wall, header.stamp.text);
        }
        output.add_entry(&entry, is_too_long, position, &self.patterns);
    }
}
