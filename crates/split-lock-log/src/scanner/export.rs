//! `journalctl -o export`: entries of `NAME=value` lines, with an empty line after each.
//!
//! A value that is no text, or has a newline, follows its name in the next line: its length in eight bytes, the
//! lowest first, the value, a newline. It may hold anything, also what looks like entries, so every length is
//! counted off.

use super::bounded::BoundedBuffer;
use super::output::ScanOutput;
use crate::journal::Fields;
use crate::patterns::Patterns;
use crate::position::Position;

#[derive(Debug)]
pub(super) struct Export {
    patterns: Patterns,
    state: State,
    /// The line, the length or the value that has begun.
    begun: BoundedBuffer,
    /// Of the value that follows its name.
    name: Vec<u8>,
    /// Of the entry so far.
    fields: Fields,
    /// Where the entry begins, if it has begun.
    start: Option<Position>,
    /// Where the next byte is.
    next: Position,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Line,
    Length,
    Value { left: u64 },
    EndOfValue,
}

/// The journal allows no longer names.
const LONGEST_NAME: usize = 64;

impl Export {
    pub(super) fn new(patterns: Patterns) -> Self {
        Export {
            patterns,
            state: State::Line,
            begun: BoundedBuffer::default(),
            name: vec![],
            fields: Fields::default(),
            start: None,
            next: Position::START,
        }
    }

    /// Whether a log that begins with this is one: the fields that come first have names of this kind.
    pub(super) fn begins_with(head: &[u8]) -> bool {
        let name = memchr::memchr(b'=', head).map_or(&b""[..], |end| &head[..end]);
        name.starts_with(b"__") && is_name(name)
    }

    pub(super) fn feed(&mut self, chunk: &[u8], output: &mut ScanOutput) {
        let mut rest = chunk;
        while !rest.is_empty() {
            let taken = match self.state {
                State::Line => self.line(rest, output),
                State::Length => self.length(rest),
                State::Value { left } => self.value(left, rest),
                State::EndOfValue => {
                    self.state = State::Line;
                    usize::from(rest[0] == b'\n')
                }
            };
            self.next.advance(&rest[..taken]);
            rest = &rest[taken..];
        }
    }

    /// The last entry may lack its end.
    pub(super) fn finish(&mut self, output: &mut ScanOutput) {
        match self.state {
            State::Line => self.end_line(output),
            State::Value { .. } => self.end_value(),
            State::Length | State::EndOfValue => {}
        }
        self.end_entry(output);
    }

    fn line(&mut self, rest: &[u8], output: &mut ScanOutput) -> usize {
        self.start.get_or_insert(self.next);
        let Some(end) = memchr::memchr(b'\n', rest) else {
            self.begun.push(rest);
            return rest.len();
        };
        self.begun.push(&rest[..end]);
        self.end_line(output);
        end + 1
    }

    fn end_line(&mut self, output: &mut ScanOutput) {
        let line = self.begun.kept();
        if line.is_empty() {
            self.end_entry(output);
        } else if let Some(end) = memchr::memchr(b'=', line) {
            let (name, value) = (&line[..end], &line[end + 1..]);
            self.fields.put(name, value, self.begun.is_too_long());
        } else if is_name(line) {
            self.name = line.to_vec();
            self.state = State::Length;
        }
        self.begun.clear();
    }

    fn length(&mut self, rest: &[u8]) -> usize {
        let missing = size_of::<u64>() - self.begun.kept().len();
        let taken = missing.min(rest.len());
        self.begun.push(&rest[..taken]);
        if let Ok(length) = self.begun.kept().try_into() {
            let left = u64::from_le_bytes(length);
            self.state = State::Value { left };
            self.begun.clear();
        }
        taken
    }

    fn value(&mut self, left: u64, rest: &[u8]) -> usize {
        let taken = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
        self.begun.push(&rest[..taken]);
        let left = left - taken as u64;
        self.state = State::Value { left };
        if left == 0 {
            self.end_value();
            self.state = State::EndOfValue;
        }
        taken
    }

    fn end_value(&mut self) {
        let value = self.begun.kept();
        let is_too_long = self.begun.is_too_long();
        self.fields.put(&self.name, value, is_too_long);
        self.begun.clear();
    }

    fn end_entry(&mut self, output: &mut ScanOutput) {
        let fields = std::mem::take(&mut self.fields);
        let position = self.start.take().unwrap_or(self.next);
        let is_too_long = fields.message_is_too_long;
        let Some(entry) = fields.entry() else { return };
        output.add_entry(&entry, is_too_long, position, &self.patterns);
    }
}

fn is_name(text: &[u8]) -> bool {
    let fits = |byte: &u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_');
    (1..=LONGEST_NAME).contains(&text.len()) && text.iter().all(fits)
}
