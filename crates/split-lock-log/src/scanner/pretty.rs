//! `journalctl -o json-pretty`: objects of many lines, from `{` to `}`.

use super::bounded::BoundedBuffer;
use super::output::ScanOutput;
use crate::line::Line;
use crate::patterns::Patterns;
use crate::position::Position;

/// Makes one line of each object. A newline in a string is escaped, so a `}` alone in a line is the end.
#[derive(Debug)]
pub(super) struct Pretty {
    patterns: Patterns,
    /// The line that has begun.
    line: BoundedBuffer,
    /// The lines of the object so far, without the space around them.
    object: BoundedBuffer,
    /// Where the object, if it has begun, and the line begin.
    start: Option<Position>,
    line_start: Position,
}

impl Pretty {
    pub(super) fn new(patterns: Patterns) -> Self {
        Pretty {
            patterns,
            line: BoundedBuffer::default(),
            object: BoundedBuffer::default(),
            start: None,
            line_start: Position::START,
        }
    }

    /// Whether a log that begins with this line is one.
    pub(super) fn begins_with(line: &[u8]) -> bool {
        line.trim_ascii() == b"{"
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

    /// The last object may lack its end.
    pub(super) fn finish(&mut self, output: &mut ScanOutput) {
        self.end_line(output);
        if let Some(start) = self.start.take() {
            self.end_object(start, output);
        }
    }

    fn end_line(&mut self, output: &mut ScanOutput) {
        let text = self.line.kept().trim_ascii();
        self.object.push(text);
        let start = match (self.start, text) {
            (None, b"{") => {
                self.start = Some(self.line_start);
                None
            }
            (Some(start), b"}") => Some(start),
            (Some(_), _) => None,
            // Something else.
            (None, _) => Some(self.line_start),
        };
        if let Some(start) = start {
            self.start = None;
            self.end_object(start, output);
        }
        self.line_start.advance_line(self.line.bytes());
        self.line.clear();
    }

    fn end_object(&mut self, start: Position, output: &mut ScanOutput) {
        let text = self.object.kept();
        output.log_start.add_line(text);
        if self.patterns.any_in(text) {
            output.add_complete(Line::read(text), text, self.object.is_too_long(), start);
        }
        self.object.clear();
    }
}
