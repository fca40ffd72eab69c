//! A log of lines, which is nearly every log.

use super::bounded::{BoundedBuffer, MAX_LINE_BYTES};
use super::output::{ScanOutput, damaged};
use crate::Damage;
use crate::header::{Header, unquoted};
use crate::line::{Certainty, Line, without_soft_break};
use crate::partial::{JoinResult, PartialMessage};
use crate::patterns::{PatternHits, Patterns};
use crate::position::Position;

/// A line goes on in the next one if it ends in the mark of quoted-printable, which mail programs use.
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
        let (block, tail) = rest.split_at(last_end(rest));
        self.block(block, output);
        self.begun.push(tail);
    }

    pub(super) fn flush(&mut self, output: &mut ScanOutput) {
        let waits = self
            .partial
            .as_ref()
            .is_some_and(PartialMessage::is_likely_whole);
        if waits && self.begun.is_empty() {
            self.give_up_partial(output);
        }
    }

    pub(super) fn finish(&mut self, output: &mut ScanOutput) {
        let has_end = self.begun.is_empty() || self.begun.kept().ends_with(b"\n");
        if !self.begun.is_empty() {
            let line = std::mem::take(&mut self.begun);
            self.line(line.kept(), line.is_too_long(), output);
        }
        if !has_end && let Some(partial) = &mut self.partial {
            // The file may have been cut off, and digits with it.
            if partial.whole.take().is_some() {
                partial.is_address_cut = true;
            }
        }
        self.give_up_partial(output);
    }

    /// Ends the line that has begun in earlier chunks, and returns what comes after it.
    fn end_begun<'a>(&mut self, chunk: &'a [u8], output: &mut ScanOutput) -> &'a [u8] {
        if self.begun.is_empty() {
            return chunk;
        }
        let mut rest = chunk;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.begun.push(&rest[..end]);
            rest = &rest[end + 1..];
            if !self.begun.is_too_long() && is_soft(self.begun.kept()) {
                self.begun.push(b"\n");
                continue;
            }
            let mut line = std::mem::take(&mut self.begun);
            self.line(line.kept(), line.is_too_long(), output);
            self.next.advance(line.kept());
            self.next
                .advance_line(line.bytes() - line.kept().len() as u64);
            line.clear();
            self.begun = line;
            return rest;
        }
        self.begun.push(rest);
        &[]
    }

    fn block(&mut self, block: &[u8], output: &mut ScanOutput) {
        let mut hits = PatternHits::new(&self.patterns);
        let (mut at, mut passed) = (0, 0);
        while at < block.len() {
            let start = if self.partial.is_some() || output.needs_every_line() {
                at
            } else if let Some(hit) = hits.at_or_after(at, block, &self.patterns) {
                at + last_end(&block[at..hit])
            } else {
                break;
            };
            let length = length(&block[start..]);
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
        if memchr::memchr(b'\n', line).is_none() {
            return self.single(line, is_too_long, self.next, output);
        }
        // Chunks end anywhere: what the search would have passed over is not looked at here either.
        if self.partial.is_none() && !output.needs_every_line() && !self.patterns.any_in(line) {
            return;
        }
        // What matters may be broken where the search does not find it.
        let is_wanted = |is_quoted| self.patterns.any_in(&joined(line, is_quoted).0);
        if (is_wanted(false) || is_wanted(true))
            && let Some((whole, lines)) = unfolded(line)
            && let Line::Whole(header, message, _) = whole
        {
            self.give_up_partial(output);
            output.see_line(&joined(line, false).0);
            return output.put(header, message, self.next, lines);
        }
        let mut position = self.next;
        for part in line.split(|&byte| byte == b'\n') {
            self.single(part, is_too_long, position, output);
            position.advance_line(part.len() as u64);
        }
    }

    fn single(
        &mut self,
        line: &[u8],
        is_too_long: bool,
        position: Position,
        output: &mut ScanOutput,
    ) {
        output.see_line(line);
        if self.joins(line, is_too_long, output) || !self.patterns.any_in(line) {
            return;
        }
        if let Some(begun) = crate::line::android_long_header(line) {
            let header = Header::read(&begun).0;
            let partial = PartialMessage::new(header, Certainty::Possible, position, &begun);
            self.partial = Some(partial);
            return;
        }
        let mut last = None;
        Line::each(line, &self.patterns, |found| {
            if let Some(earlier) = last.replace(found)
                && let Some((header, _)) = output.add(earlier, line, is_too_long, position)
            {
                output.put(header, damaged(Damage::CutShort, line), position, 1);
            }
        });
        self.partial = match last {
            Some(Line::Whole(header, message, ending))
                if ending.may_go_on && !header.is_escaped && !is_too_long =>
            {
                Some(PartialMessage::of_whole(header, message, position, line))
            }
            Some(found) => output
                .add(found, line, is_too_long, position)
                .map(|(header, certainty)| PartialMessage::new(header, certainty, position, line)),
            None => None,
        };
    }

    /// Whether the line is part of a message that lines before it have begun.
    fn joins(&mut self, line: &[u8], is_too_long: bool, output: &mut ScanOutput) -> bool {
        let Some(partial) = &mut self.partial else {
            return false;
        };
        let joined = match is_too_long {
            true => JoinResult::Unrelated,
            false => partial.join(line),
        };
        match joined {
            JoinResult::Complete(header, message) => {
                output.put(header, message, partial.position, partial.lines);
                self.partial = None;
                true
            }
            JoinResult::Incomplete => true,
            JoinResult::Doubtful => {
                partial.whole = None;
                partial.is_address_cut = true;
                self.give_up_partial(output);
                true
            }
            JoinResult::Unrelated => {
                self.give_up_partial(output);
                false
            }
        }
    }

    /// Nothing that follows belongs to the message that has begun.
    fn give_up_partial(&mut self, output: &mut ScanOutput) {
        let Some(partial) = self.partial.take() else {
            return;
        };
        let (position, lines) = (partial.position, partial.lines);
        if let Some((header, message)) = partial.whole {
            output.put(header, message, position, lines);
        } else if partial.certainty == Certainty::Certain {
            let damage = match partial.is_address_cut {
                true => Damage::AddressCutShort,
                false => Damage::CutShort,
            };
            let message = damaged(damage, &partial.text);
            output.put(partial.header, message, position, lines);
        }
    }
}

/// Whether a line that ends here goes on in the next one.
fn is_soft(line: &[u8]) -> bool {
    matches!(line, [.., b'='] | [.., b'=', b'\r'])
}

/// Up to where whole lines go.
fn last_end(text: &[u8]) -> usize {
    let mut end = text.len();
    while let Some(newline) = memchr::memrchr(b'\n', &text[..end]) {
        if !is_soft(&text[..newline]) {
            return newline + 1;
        }
        end = newline;
    }
    0
}

/// How long the first line is, without the newline that ends it.
fn length(text: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', text)
        .find(|&newline| !is_soft(&text[..newline]))
        .unwrap_or(text.len())
}

/// What the parts of a line say together that none of them says alone, and in how many lines.
fn unfolded(line: &[u8]) -> Option<(Line, u8)> {
    let mut parts = line.split(|&byte| byte == b'\n');
    let is_whole = |line| matches!(line, Line::Whole(header, ..) if !header.lacks_prefix);
    if parts.any(|part| is_whole(Line::of_text(part))) {
        return None;
    }
    [false, true].into_iter().find_map(|is_quoted| {
        let (text, lines) = joined(line, is_quoted);
        let whole = Line::of_text(&text);
        matches!(whole, Line::Whole(..)).then_some((whole, lines))
    })
}

/// The parts of a line, one behind the other; a quote's marks are in front of each where the quote was wrapped, and in
/// front of the first where the message was.
fn joined(line: &[u8], is_quoted: bool) -> (Vec<u8>, u8) {
    let mut text = vec![];
    let mut lines = 0u8;
    for part in line.split(|&byte| byte == b'\n') {
        lines = lines.saturating_add(1);
        let part = part.strip_suffix(b"\r").unwrap_or(part);
        let part = match is_quoted && lines > 1 {
            true => unquoted(part),
            false => part,
        };
        text.extend(without_soft_break(part));
    }
    (text, lines)
}
