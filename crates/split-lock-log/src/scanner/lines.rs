//! A log of lines, which is nearly every log.

use super::bounded::{BoundedBuffer, MAX_LINE_BYTES};
use super::output::{ScanOutput, damaged};
use crate::Damage;
use crate::line::{Certainty, Line};
use crate::partial::{JoinResult, PartialMessage};
use crate::patterns::{PatternHits, Patterns};
use crate::position::Position;

#[derive(Debug)]
pub(super) struct Lines {
    patterns: Patterns,
    /// The line that earlier chunks have begun.
    begun: BoundedBuffer,
    partial: Option<PartialMessage>,
    /// Where the line begins that has not been looked at yet.
    next: Position,
}

impl Lines {
    pub(super) fn new(patterns: Patterns) -> Self {
        Lines {
            patterns,
            begun: BoundedBuffer::default(),
            partial: None,
            next: Position::START,
        }
    }

    pub(super) fn feed(&mut self, chunk: &[u8], output: &mut ScanOutput) {
        let rest = self.end_begun(chunk, output);
        let whole = memchr::memrchr(b'\n', rest).map_or(0, |last| last + 1);
        let (block, tail) = rest.split_at(whole);
        self.block(block, output);
        self.begun.push(tail);
    }

    pub(super) fn finish(&mut self, output: &mut ScanOutput) {
        if !self.begun.is_empty() {
            self.feed(b"\n", output);
        }
        self.give_up_partial(output);
    }

    /// Ends the line that has begun in earlier chunks, and returns what comes after it.
    fn end_begun<'a>(&mut self, chunk: &'a [u8], output: &mut ScanOutput) -> &'a [u8] {
        if self.begun.is_empty() {
            return chunk;
        }
        let Some(end) = memchr::memchr(b'\n', chunk) else {
            return chunk;
        };
        let mut line = std::mem::take(&mut self.begun);
        line.push(&chunk[..end]);
        self.line(line.kept(), line.is_too_long(), output);
        self.next.advance_line(line.bytes());
        line.clear();
        self.begun = line;
        &chunk[end + 1..]
    }

    /// Goes through whole lines.
    fn block(&mut self, block: &[u8], output: &mut ScanOutput) {
        let mut hits = PatternHits::new(&self.patterns);
        let (mut at, mut passed) = (0, 0);
        while at < block.len() {
            let start = if self.partial.is_some() || !output.log_start.has_decided() {
                at
            } else if let Some(hit) = hits.at_or_after(at, block, &self.patterns) {
                memchr::memrchr(b'\n', &block[at..hit]).map_or(at, |newline| at + newline + 1)
            } else {
                break;
            };
            let length = memchr::memchr(b'\n', &block[start..]).unwrap_or(block.len() - start);
            self.next.advance(&block[passed..start]);
            passed = start;
            let kept = length.min(MAX_LINE_BYTES);
            self.line(&block[start..start + kept], kept < length, output);
            at = start + length + 1;
        }
        self.next.advance(&block[passed..]);
    }

    /// Reads the line that begins at [`next`](Self::next).
    fn line(&mut self, line: &[u8], is_too_long: bool, output: &mut ScanOutput) {
        output.log_start.add_line(line);
        if self.joins(line, is_too_long, output) || !self.patterns.any_in(line) {
            return;
        }
        let position = self.next;
        let begun = output.add(Line::read(line), line, is_too_long, position);
        self.partial =
            begun.map(|(header, certainty)| PartialMessage::new(header, certainty, position, line));
    }

    /// Whether the line is part of a message that lines before it have begun.
    fn joins(&mut self, line: &[u8], is_too_long: bool, output: &mut ScanOutput) -> bool {
        let Some(partial) = &mut self.partial else {
            return false;
        };
        let joined = if is_too_long {
            JoinResult::Unrelated
        } else {
            partial.join(line)
        };
        match joined {
            JoinResult::Complete(header, message) => {
                output.put(header, message, partial.position, partial.lines);
                self.partial = None;
                true
            }
            JoinResult::Incomplete => true,
            JoinResult::Unrelated => {
                self.give_up_partial(output);
                false
            }
        }
    }

    /// Nothing that follows belongs to the message that has begun.
    fn give_up_partial(&mut self, output: &mut ScanOutput) {
        if let Some(partial) = self.partial.take()
            && partial.certainty == Certainty::Certain
        {
            let message = damaged(Damage::CutShort, &partial.text);
            output.put(partial.header, message, partial.position, partial.lines);
        }
    }
}
