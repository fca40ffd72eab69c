//! A log of lines, which is nearly every log.

use super::MAX_LINE_BYTES;
use super::carry::Carry;
use super::findings::{Findings, Place, newlines};
use crate::Damage;
use crate::line::{Line, Part};
use crate::needles::{Hits, Needles};
use crate::wrapped::{Absorbed, Open};

#[derive(Debug)]
pub(super) struct Lines {
    needles: Needles,
    carry: Carry,
    open: Option<Open>,
    lines_before: u64,
    bytes_before: u64,
}

impl Lines {
    pub(super) fn new(needles: Needles) -> Self {
        Lines {
            needles,
            carry: Carry::default(),
            open: None,
            lines_before: 0,
            bytes_before: 0,
        }
    }

    pub(super) fn feed(&mut self, chunk: &[u8], findings: &mut Findings) {
        let rest = self.end_carried(chunk, findings);
        let whole = memchr::memrchr(b'\n', rest).map_or(0, |last| last + 1);
        let (block, tail) = rest.split_at(whole);
        self.block(block, findings);
        self.carry.push(tail);
    }

    pub(super) fn finish(&mut self, findings: &mut Findings) {
        if !self.carry.is_empty() {
            self.feed(b"\n", findings);
        }
        self.close(findings);
    }

    /// Ends the line that has begun in earlier chunks, and returns what comes after it.
    fn end_carried<'a>(&mut self, chunk: &'a [u8], findings: &mut Findings) -> &'a [u8] {
        if self.carry.is_empty() {
            return chunk;
        }
        let Some(end) = memchr::memchr(b'\n', chunk) else {
            return chunk;
        };
        let mut carry = std::mem::take(&mut self.carry);
        carry.push(&chunk[..end]);
        let place = Place {
            line: self.lines_before + 1,
            offset: self.bytes_before,
        };
        self.line(carry.kept(), carry.is_too_long(), place, findings);
        self.lines_before += 1;
        self.bytes_before += carry.bytes() + 1;
        carry.clear();
        self.carry = carry;
        &chunk[end + 1..]
    }

    /// Goes through whole lines.
    fn block(&mut self, block: &[u8], findings: &mut Findings) {
        let mut hits = Hits::new(&self.needles);
        let (mut at, mut counted) = (0, 0);
        while at < block.len() {
            let start = if self.open.is_some() || !findings.judge.has_decided() {
                at
            } else if let Some(hit) = hits.at_or_after(at, block, &self.needles) {
                memchr::memrchr(b'\n', &block[at..hit]).map_or(at, |newline| at + newline + 1)
            } else {
                break;
            };
            let length = memchr::memchr(b'\n', &block[start..]).unwrap_or(block.len() - start);
            self.lines_before += newlines(&block[counted..start]);
            counted = start;
            let place = Place {
                line: self.lines_before + 1,
                offset: self.bytes_before + start as u64,
            };
            let kept = length.min(MAX_LINE_BYTES);
            let line = &block[start..start + kept];
            self.line(line, kept < length, place, findings);
            at = start + length + 1;
        }
        self.lines_before += newlines(&block[counted..]);
        self.bytes_before += block.len() as u64;
    }

    fn line(&mut self, line: &[u8], is_too_long: bool, place: Place, findings: &mut Findings) {
        if !findings.judge.has_decided() {
            findings.judge.look(line);
        }
        if self.goes_on(line, is_too_long, findings) || !self.needles.are_in(line) {
            return;
        }
        let open = findings.add(Line::read(line), line, is_too_long, place);
        self.open = open.map(|(header, part)| Open::new(header, part, place, line));
    }

    /// Whether the line is part of a message that lines before it have begun.
    fn goes_on(&mut self, line: &[u8], is_too_long: bool, findings: &mut Findings) -> bool {
        let Some(open) = &mut self.open else {
            return false;
        };
        let absorbed = if is_too_long {
            Absorbed::Refused
        } else {
            open.absorb(line)
        };
        match absorbed {
            Absorbed::Whole(header, message) => {
                findings.put(header, message, open.place, open.lines);
                self.open = None;
                true
            }
            Absorbed::Held => true,
            Absorbed::Refused => {
                self.close(findings);
                false
            }
        }
    }

    /// Nothing that follows belongs to the open message.
    fn close(&mut self, findings: &mut Findings) {
        if let Some(open) = self.open.take()
            && open.part == Part::Sure
        {
            let (place, lines) = (open.place, open.lines);
            findings.damaged(open.header, Damage::CutShort, &open.text, place, lines);
        }
    }
}
