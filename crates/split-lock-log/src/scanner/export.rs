//! `journalctl -o export`: entries of `NAME=value` lines, with an empty line after each.
//!
//! A value that is no text, or has a newline, follows its name in the next line: its length in eight bytes, the
//! lowest first, the value, a newline. It may hold anything, also what looks like entries, so every length is
//! counted off.

use super::carry::Carry;
use super::findings::{Findings, Place};
use crate::journal::Fields;
use crate::line::Line;
use crate::needles::Needles;

#[derive(Debug)]
pub(super) struct Export {
    needles: Needles,
    state: State,
    /// The line or the value that has begun.
    carry: Carry,
    fields: Fields,
    message_is_too_long: bool,
    /// Where the entry begins, if it has begun.
    start: Option<Place>,
    /// Where the next byte is.
    next: Place,
}

/// What comes next.
#[derive(Debug)]
enum State {
    Line,
    Length { name: Vec<u8>, bytes: Vec<u8> },
    Value { name: Vec<u8>, left: u64 },
    EndOfValue,
}

/// The journal allows no longer names.
const LONGEST_NAME: usize = 64;

impl Export {
    pub(super) fn new(needles: Needles) -> Self {
        Export {
            needles,
            state: State::Line,
            carry: Carry::default(),
            fields: Fields::default(),
            message_is_too_long: false,
            start: None,
            next: Place::FIRST,
        }
    }

    /// Whether a log that begins with this is one: the fields that come first have names of this kind.
    pub(super) fn begins_with(head: &[u8]) -> bool {
        let name = memchr::memchr(b'=', head).map_or(&b""[..], |end| &head[..end]);
        name.starts_with(b"__") && is_name(name)
    }

    pub(super) fn feed(&mut self, chunk: &[u8], findings: &mut Findings) {
        let mut rest = chunk;
        while !rest.is_empty() {
            let taken = match std::mem::replace(&mut self.state, State::Line) {
                State::Line => self.line(rest, findings),
                State::Length { name, bytes } => self.length(name, bytes, rest),
                State::Value { name, left } => self.value(name, left, rest),
                State::EndOfValue => usize::from(rest[0] == b'\n'),
            };
            self.next.pass(&rest[..taken]);
            rest = &rest[taken..];
        }
    }

    /// The last entry may lack its end.
    pub(super) fn finish(&mut self, findings: &mut Findings) {
        let carry = std::mem::take(&mut self.carry);
        match std::mem::replace(&mut self.state, State::Line) {
            State::Line => self.whole_line(&carry, findings),
            State::Value { name, .. } => self.put(&name, &carry),
            State::Length { .. } | State::EndOfValue => {}
        }
        self.end_entry(findings);
    }

    fn line(&mut self, rest: &[u8], findings: &mut Findings) -> usize {
        self.start.get_or_insert(self.next);
        let Some(end) = memchr::memchr(b'\n', rest) else {
            self.carry.push(rest);
            return rest.len();
        };
        let mut line = std::mem::take(&mut self.carry);
        line.push(&rest[..end]);
        self.whole_line(&line, findings);
        line.clear();
        self.carry = line;
        end + 1
    }

    fn whole_line(&mut self, line: &Carry, findings: &mut Findings) {
        let text = line.kept();
        if text.is_empty() {
            self.end_entry(findings);
        } else if let Some(end) = memchr::memchr(b'=', text) {
            let is_too_long = line.is_too_long();
            self.put_text(&text[..end], &text[end + 1..], is_too_long);
        } else if is_name(text) {
            self.state = State::Length {
                name: text.to_vec(),
                bytes: vec![],
            };
        }
    }

    fn length(&mut self, name: Vec<u8>, mut bytes: Vec<u8>, rest: &[u8]) -> usize {
        let missing = size_of::<u64>() - bytes.len();
        let taken = missing.min(rest.len());
        bytes.extend_from_slice(&rest[..taken]);
        self.state = match <[u8; size_of::<u64>()]>::try_from(&bytes[..]) {
            Ok(length) => State::Value {
                name,
                left: u64::from_le_bytes(length),
            },
            Err(_) => State::Length { name, bytes },
        };
        taken
    }

    fn value(&mut self, name: Vec<u8>, left: u64, rest: &[u8]) -> usize {
        let taken = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
        self.carry.push(&rest[..taken]);
        let left = left - taken as u64;
        if left > 0 {
            self.state = State::Value { name, left };
            return taken;
        }
        let mut value = std::mem::take(&mut self.carry);
        self.put(&name, &value);
        value.clear();
        self.carry = value;
        self.state = State::EndOfValue;
        taken
    }

    fn put(&mut self, name: &[u8], value: &Carry) {
        self.put_text(name, value.kept(), value.is_too_long());
    }

    fn put_text(&mut self, name: &[u8], value: &[u8], is_too_long: bool) {
        if let Some(field) = self.fields.named(name)
            && field.is_none()
        {
            *field = Some(value.to_vec());
            self.message_is_too_long |= is_too_long && name == b"MESSAGE";
        }
    }

    fn end_entry(&mut self, findings: &mut Findings) {
        let entry = std::mem::take(&mut self.fields).entry();
        let place = self.start.take().unwrap_or(self.next);
        let is_too_long = std::mem::take(&mut self.message_is_too_long);
        let Some(entry) = entry else { return };
        findings.judge.look_at(&entry);
        if self.needles.are_in(&entry.message) {
            let said = Line::of_entry(&entry);
            findings.add_complete(said, &entry.message, is_too_long, place);
        }
    }
}

fn is_name(text: &[u8]) -> bool {
    let fits = |byte: &u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_');
    (1..=LONGEST_NAME).contains(&text.len()) && text.iter().all(fits)
}
