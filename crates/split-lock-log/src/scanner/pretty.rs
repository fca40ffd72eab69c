//! `journalctl -o json-pretty`: objects of many lines, from `{` to `}`.

use super::carry::Carry;
use super::findings::{Findings, Place};
use crate::line::Line;
use crate::needles::Needles;

/// Makes one line of each object. A newline in a string is escaped, so a `}` alone in a line is the end.
#[derive(Debug)]
pub(super) struct Pretty {
    needles: Needles,
    /// The line that has begun.
    line: Carry,
    /// The lines of the object so far, without the space around them.
    object: Carry,
    /// Where the object, if it has begun, and the line begin.
    start: Option<Place>,
    line_start: Place,
}

impl Pretty {
    pub(super) fn new(needles: Needles) -> Self {
        Pretty {
            needles,
            line: Carry::default(),
            object: Carry::default(),
            start: None,
            line_start: Place::FIRST,
        }
    }

    /// Whether a log that begins with this line is one.
    pub(super) fn begins_with(line: &[u8]) -> bool {
        line.trim_ascii() == b"{"
    }

    pub(super) fn feed(&mut self, chunk: &[u8], findings: &mut Findings) {
        let mut rest = chunk;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.line.push(&rest[..end]);
            rest = &rest[end + 1..];
            self.end_line(findings);
        }
        self.line.push(rest);
    }

    /// The last object may lack its end.
    pub(super) fn finish(&mut self, findings: &mut Findings) {
        self.end_line(findings);
        if let Some(start) = self.start.take() {
            self.end_object(start, findings);
        }
    }

    fn end_line(&mut self, findings: &mut Findings) {
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
            self.end_object(start, findings);
        }
        self.line_start.line += 1;
        self.line_start.offset += self.line.bytes() + 1;
        self.line.clear();
    }

    fn end_object(&mut self, start: Place, findings: &mut Findings) {
        let text = self.object.kept();
        if !findings.judge.has_decided() {
            findings.judge.look(text);
        }
        if self.needles.are_in(text) {
            findings.add_complete(Line::read(text), text, self.object.is_too_long(), start);
        }
        self.object.clear();
    }
}
