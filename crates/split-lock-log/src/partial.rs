//! A message that a mail program, or a terminal's edge, has broken over several lines.

use crate::Message;
use crate::header::{Header, unquoted};
use crate::line::{Certainty, Line, without_soft_break};
use crate::message::{LONGEST_HEXADECIMAL, is_all_of_an_address};
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
    /// The message, if what there is of it is whole and could still be a part of one.
    pub(crate) whole: Option<(Header, Message)>,
    /// What is missing, or may be, are digits of the address.
    pub(crate) is_address_cut: bool,
}

/// What a line is to the message that lines before it have begun.
#[derive(Debug)]
pub(crate) enum JoinResult {
    /// It ends the message.
    Complete(Header, Message),
    /// It has the rest of an address, as far as can be told.
    Doubtful,
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
            whole: None,
            is_address_cut: false,
        }
    }

    /// A message that ends its line in an address, of which there may be more in the next.
    pub(crate) fn of_whole(
        header: Header,
        message: Message,
        position: Position,
        line: &[u8],
    ) -> Self {
        let whole = Some((header.clone(), message));
        PartialMessage {
            whole,
            ..Self::new(header, Certainty::Certain, position, line)
        }
    }

    /// Whether it is a whole message, and no terminal breaks lines where this one ends.
    pub(crate) fn is_likely_whole(&self) -> bool {
        self.whole.is_some() && !is_usual_width(self.text.trim_ascii_end().len())
    }

    /// Tries to go on with the rest of an address: digits and nothing else, which begin where a terminal begins a line.
    fn join_address(&mut self, line: &[u8]) -> JoinResult {
        let piece = match line {
            [b'>', ..] => unquoted(line).trim_ascii_end(),
            _ => line.trim_ascii_end(),
        };
        if piece.is_empty()
            || piece.len() > LONGEST_HEXADECIMAL
            || !piece.iter().all(u8::is_ascii_hexdigit)
        {
            return JoinResult::Unrelated;
        }
        let first = self.joined.last().map_or(&[][..], Vec::as_slice);
        let end_of_words = first.iter().rposition(|byte| !byte.is_ascii_hexdigit());
        let digits = [&first[end_of_words.map_or(0, |at| at + 1)..], piece].concat();
        if digits.len() > LONGEST_HEXADECIMAL {
            return JoinResult::Unrelated;
        }
        let joined = [first, piece].concat();
        self.lines += 1;
        match Line::of_text(&joined) {
            Line::Whole(header, message, _)
                if is_all_of_an_address(&digits) || is_usual_width(self.text.len()) =>
            {
                JoinResult::Complete(header, message)
            }
            _ => JoinResult::Doubtful,
        }
    }

    pub(crate) fn join(&mut self, line: &[u8]) -> JoinResult {
        if self.whole.is_some() {
            return self.join_address(line);
        }
        // What says something by itself is no other line's end, unless it lacks a beginning.
        match Line::of_text(line) {
            Line::Other | Line::Damaged(_, crate::Damage::NoBeginning) => {}
            Line::Whole(header, ..) if header.lacks_prefix => {}
            _ => return JoinResult::Unrelated,
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
                    // Of an address the rest may be in the next line.
                    Line::Whole(header, message, ending)
                        if ending.may_go_on && separator.is_empty() =>
                    {
                        self.lines += 1;
                        self.joined = vec![joined];
                        self.whole = Some((header, message));
                        return JoinResult::Incomplete;
                    }
                    Line::Whole(header, message, _) => {
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

/// Terminals, and programs that wrap as they do, have a round number of columns.
fn is_usual_width(columns: usize) -> bool {
    columns >= 60
        && (columns.is_multiple_of(10)
            || columns.is_multiple_of(16)
            || [72, 76, 78, 79, 132].contains(&columns))
}

fn join(text: &[u8], separator: &[u8], piece: &[u8]) -> Vec<u8> {
    match without_soft_break(text) {
        goes_on if goes_on.len() < text.len() => [goes_on, piece].concat(),
        text => [text, separator, piece].concat(),
    }
}
