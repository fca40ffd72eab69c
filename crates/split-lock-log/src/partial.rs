//! A message that a mail program, or a terminal's edge, has broken over several lines.

use crate::Message;
use crate::header::{Header, unquoted};
use crate::line::{Certainty, Line, without_soft_break};
use crate::position::Position;

/// Nobody wraps so narrowly that a message needs more lines.
const MOST_LINES: u8 = 4;

/// Longer than any of the messages with any of the headers.
const LONGEST_BYTES: usize = 1024;

/// A line that begins a message and does not end it.
#[derive(Debug)]
pub(crate) struct PartialMessage {
    pub(crate) header: Header,
    pub(crate) certainty: Certainty,
    pub(crate) position: Position,
    /// As it is.
    pub(crate) text: Vec<u8>,
    /// It and the lines after it, joined in each way that is possible.
    joined: Vec<Vec<u8>>,
    pub(crate) lines: u8,
}

/// What a line is to the message that lines before it have begun.
#[derive(Debug)]
pub(crate) enum JoinResult {
    /// It ends the message.
    Complete(Header, Message),
    /// It may be part of it, and more has to follow.
    Incomplete,
    /// It has nothing to do with it.
    Unrelated,
}

impl PartialMessage {
    pub(crate) fn new(
        header: Header,
        certainty: Certainty,
        position: Position,
        line: &[u8],
    ) -> Self {
        PartialMessage {
            header,
            certainty,
            position,
            text: line.to_vec(),
            joined: vec![line.trim_ascii_end().to_vec()],
            lines: 1,
        }
    }

    /// Tries to go on with the next line.
    pub(crate) fn join(&mut self, line: &[u8]) -> JoinResult {
        // What says something by itself is no other line's end.
        if !matches!(
            Line::read(line),
            Line::Other | Line::Damaged(_, crate::Damage::NoBeginning)
        ) {
            return JoinResult::Unrelated;
        }
        let (header, rest) = Header::read(line);
        let (piece, separators): (_, &[&[u8]]) = if header.stamp.is_empty() {
            // Mail programs break at a space, terminals anywhere.
            (unquoted(line), &[b" ", b""])
        } else if header == self.header {
            // A thread's name may hold a newline: then the kernel's message is of two lines.
            (rest, &[b"\n"])
        } else {
            return JoinResult::Unrelated;
        };
        let piece = piece.trim_ascii_end();
        if piece.is_empty() {
            return JoinResult::Unrelated;
        }
        let mut candidates = vec![];
        for text in &self.joined {
            for separator in separators {
                let joined = join(text, separator, piece);
                match Line::of_text(&joined) {
                    Line::Whole(header, message) => {
                        self.lines += 1;
                        return JoinResult::Complete(header, message);
                    }
                    Line::Partial(..) if joined.len() <= LONGEST_BYTES => candidates.push(joined),
                    _ => {}
                }
            }
        }
        if candidates.is_empty() || self.lines + 1 >= MOST_LINES {
            return JoinResult::Unrelated;
        }
        self.joined = candidates;
        self.lines += 1;
        JoinResult::Incomplete
    }
}

fn join(text: &[u8], separator: &[u8], piece: &[u8]) -> Vec<u8> {
    match without_soft_break(text) {
        goes_on if goes_on.len() < text.len() => [goes_on, piece].concat(),
        text => [text, separator, piece].concat(),
    }
}
