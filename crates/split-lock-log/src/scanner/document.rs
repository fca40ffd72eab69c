//! JSON that is more than a value to a line: arrays, indented objects, several documents one behind the other.
//!
//! An object in an array is a record of its own, and is read as soon as it ends, so that a document may be of any
//! length. What is around the records is read at the document's end.

use super::bounded::BoundedBuffer;
use super::output::{ScanOutput, damaged};
use crate::Damage;
use crate::header::Header;
use crate::json::{any_entry, entries, value_in};
use crate::line::Line;
use crate::patterns::Patterns;
use crate::position::Position;

/// A longer value is not read, and counted as damaged if it holds a message.
const LONGEST_VALUE: usize = 4 << 20;

/// Nothing sensible is nested deeper.
const MOST_LEVELS: usize = 128;

#[derive(Debug)]
pub(super) struct Document {
    patterns: Patterns,
    /// A line that is not, or not yet, known to begin a document.
    line: BoundedBuffer,
    /// The document, with `null` in the place of the records in it.
    around: Value,
    /// The record that has begun, and on which level.
    record: Option<(Value, usize)>,
    /// What is open: `{` or `[`.
    open: Vec<u8>,
    string: StringState,
    /// Where the line begins that is being read.
    line_start: Position,
    /// Bytes of that line so far.
    line_bytes: u64,
    is_in_document: bool,
}

#[derive(Debug, Default)]
struct Value {
    text: Vec<u8>,
    start: Option<Position>,
    is_too_long: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StringState {
    Outside,
    Inside,
    Escaped,
}

impl Value {
    fn push(&mut self, byte: u8, at: Position) {
        self.start.get_or_insert(at);
        if self.text.len() < LONGEST_VALUE {
            self.text.push(byte);
        } else {
            self.is_too_long = true;
        }
    }
}

impl Document {
    pub(super) fn new(patterns: Patterns) -> Self {
        Document {
            patterns,
            line: BoundedBuffer::default(),
            around: Value::default(),
            record: None,
            open: vec![],
            string: StringState::Outside,
            line_start: Position::START,
            line_bytes: 0,
            is_in_document: false,
        }
    }

    /// Whether a log that begins with this line is one: a line that begins a value and does not end it, or an array.
    pub(super) fn begins_with(line: &[u8]) -> bool {
        value_in(line).is_some_and(|value| {
            value.starts_with(b"[")
                || serde_json::from_slice::<serde::de::IgnoredAny>(value)
                    .is_err_and(|error| error.is_eof())
        })
    }

    pub(super) fn feed(&mut self, chunk: &[u8], output: &mut ScanOutput) {
        for &byte in chunk {
            self.byte(byte, output);
            self.line_bytes += 1;
            if byte == b'\n' {
                self.line_start.advance_line(self.line_bytes - 1);
                self.line_bytes = 0;
            }
        }
    }

    /// The last document may lack its end.
    pub(super) fn finish(&mut self, output: &mut ScanOutput) {
        self.end_text(output);
        if let Some((record, _)) = self.record.take() {
            self.end_value(&record, output);
        }
        let around = std::mem::take(&mut self.around);
        self.end_value(&around, output);
    }

    fn byte(&mut self, byte: u8, output: &mut ScanOutput) {
        if !self.is_in_document {
            return self.outside(byte, output);
        }
        let at = self.line_start;
        let is_in_string = self.string != StringState::Outside;
        self.string = match (self.string, byte) {
            (StringState::Outside, b'"') | (StringState::Escaped, _) => StringState::Inside,
            (StringState::Outside, _) => StringState::Outside,
            (StringState::Inside, b'\\') => StringState::Escaped,
            (StringState::Inside, b'"') => StringState::Outside,
            (StringState::Inside, _) => StringState::Inside,
        };
        if !is_in_string && byte == b'{' && self.record.is_none() && self.open.last() == Some(&b'[')
        {
            self.record = Some((Value::default(), self.open.len()));
        }
        // An indented array of bytes is searched as one that is not.
        if !is_in_string && byte.is_ascii_whitespace() {
            return;
        }
        match &mut self.record {
            Some((record, _)) => record.push(byte, at),
            None => self.around.push(byte, at),
        }
        if is_in_string {
            return;
        }
        match byte {
            b'{' | b'[' if self.open.len() < MOST_LEVELS => self.open.push(byte),
            b'}' | b']' => self.close(output),
            _ => {}
        }
    }

    fn close(&mut self, output: &mut ScanOutput) {
        self.open.pop();
        let has_ended = |(_, level): &mut (Value, usize)| *level >= self.open.len();
        if let Some((record, _)) = self.record.take_if(has_ended) {
            self.end_value(&record, output);
            for &byte in b"null" {
                self.around.push(byte, self.line_start);
            }
        }
        if self.open.is_empty() {
            let around = std::mem::take(&mut self.around);
            self.end_value(&around, output);
            self.is_in_document = false;
        }
    }

    /// Between documents there may be anything: it is text until a line begins a document.
    fn outside(&mut self, byte: u8, output: &mut ScanOutput) {
        if byte == b'\n' {
            return self.end_text(output);
        }
        self.line.push(&[byte]);
        let begun = self.line.kept();
        // Two characters tell, as `[` also begins the kernel's own time.
        const MOST_SPACE: usize = 64;
        if begun.len() <= MOST_SPACE
            && value_in(begun).is_some_and(|value| value.trim_ascii_end().len() >= 2)
        {
            let begun = begun.to_vec();
            self.begin(&begun, output);
        }
    }

    fn begin(&mut self, begun: &[u8], output: &mut ScanOutput) {
        self.line.clear();
        self.is_in_document = true;
        let value = value_in(begun).unwrap_or_default().to_vec();
        for byte in value {
            self.byte(byte, output);
        }
    }

    fn end_text(&mut self, output: &mut ScanOutput) {
        let text = self.line.kept().to_vec();
        let is_too_long = self.line.is_too_long();
        if value_in(&text).is_some() {
            self.begin(&text, output);
            return;
        }
        self.line.clear();
        self.text(&text, is_too_long, self.line_start, output);
    }

    fn text(&self, text: &[u8], is_too_long: bool, position: Position, output: &mut ScanOutput) {
        output.see_line(text);
        if self.patterns.any_in(text) {
            Line::each_of_text(text, |line| {
                output.add_complete(line, text, is_too_long, position);
            });
        }
    }

    fn end_value(&self, value: &Value, output: &mut ScanOutput) {
        let Some(position) = value.start else {
            return;
        };
        let is_wanted = self.patterns.any_in(&value.text);
        if !is_wanted && !output.needs_every_line() {
            return;
        }
        let Ok(parsed) = serde_json::from_slice(&value.text) else {
            if is_wanted {
                self.broken(value, position, output);
            }
            return;
        };
        if let Some(entry) = any_entry(&parsed) {
            output.see_entry(&entry);
        }
        for entry in entries(&parsed, &self.patterns) {
            Line::each_of_entry(&entry, |line| {
                output.add_complete(line, &entry.message, false, position);
            });
        }
    }

    /// Without its end nobody knows what of it is escaped, and how much is missing.
    fn broken(&self, value: &Value, position: Position, output: &mut ScanOutput) {
        let damage = match value.is_too_long {
            true => Damage::LineTooLong,
            false => Damage::CutShort,
        };
        let mut is_damaged = false;
        for text in value.text.split(|&byte| byte == b'"') {
            if self.patterns.any_in(text) {
                Line::each_of_text(text, |line| {
                    is_damaged |= matches!(
                        line,
                        Line::Whole(..) | Line::Partial(..) | Line::Damaged(..)
                    );
                });
            }
            if is_damaged {
                return output.put(Header::default(), damaged(damage, text), position, 1);
            }
        }
    }
}
