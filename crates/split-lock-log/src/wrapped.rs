//! A message that a mail program, or a terminal's edge, has broken over several lines.

use crate::Message;
use crate::header::{Header, unquoted};
use crate::line::{Line, Part, continued};
use crate::scanner::Place;

/// Nobody wraps so narrowly that a message needs more lines.
const MOST_LINES: u8 = 4;

/// Longer than any of the messages with any of the headers.
const LONGEST_BYTES: usize = 1024;

/// A line that begins a message and does not end it.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) header: Header,
    pub(crate) part: Part,
    pub(crate) place: Place,
    /// As it is.
    pub(crate) text: Vec<u8>,
    /// It and the lines after it, joined in each way that is possible.
    joined: Vec<Vec<u8>>,
    pub(crate) lines: u8,
}

/// What became of a line after an open one.
#[derive(Debug)]
pub(crate) enum Absorbed {
    /// It ends the message.
    Whole(Header, Message),
    /// It may be part of it, and more has to follow.
    Held,
    /// It has nothing to do with it.
    Refused,
}

impl Open {
    pub(crate) fn new(header: Header, part: Part, place: Place, line: &[u8]) -> Self {
        Open {
            header,
            part,
            place,
            text: line.to_vec(),
            joined: vec![line.trim_ascii_end().to_vec()],
            lines: 1,
        }
    }

    /// Tries to go on with the next line.
    pub(crate) fn absorb(&mut self, line: &[u8]) -> Absorbed {
        // What says something by itself is no other line's end.
        if !matches!(
            Line::read(line),
            Line::Other | Line::Damaged(_, crate::Damage::NoBeginning)
        ) {
            return Absorbed::Refused;
        }
        let (header, rest) = Header::read(line);
        let (piece, separators): (_, &[&[u8]]) = if header.stamp.is_empty() {
            // Mail programs break at a space, terminals anywhere.
            (unquoted(line), &[b" ", b""])
        } else if header == self.header {
            // A thread's name may hold a newline: then the kernel's message is of two lines.
            (rest, &[b"\n"])
        } else {
            return Absorbed::Refused;
        };
        let piece = piece.trim_ascii_end();
        if piece.is_empty() {
            return Absorbed::Refused;
        }
        let mut open = vec![];
        for text in &self.joined {
            for separator in separators {
                let joined = join(text, separator, piece);
                match Line::of_text(&joined) {
                    Line::Whole(header, message) => {
                        self.lines += 1;
                        return Absorbed::Whole(header, message);
                    }
                    Line::Open(..) if joined.len() <= LONGEST_BYTES => open.push(joined),
                    _ => {}
                }
            }
        }
        if open.is_empty() || self.lines + 1 >= MOST_LINES {
            return Absorbed::Refused;
        }
        self.joined = open;
        self.lines += 1;
        Absorbed::Held
    }
}

fn join(text: &[u8], separator: &[u8], piece: &[u8]) -> Vec<u8> {
    match continued(text) {
        goes_on if goes_on.len() < text.len() => [goes_on, piece].concat(),
        text => [text, separator, piece].concat(),
    }
}
