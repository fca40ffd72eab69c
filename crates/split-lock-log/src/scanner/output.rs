//! What has been found so far, in whatever form it came.

use std::collections::VecDeque;

use crate::header::Header;
use crate::line::{Certainty, Line};
use crate::log_start::LogStartDetector;
use crate::position::Position;
use crate::{Damage, Message, MessageCounts, Record};

/// So much of a damaged line is shown.
const SHOWN_BYTES: usize = 256;

#[derive(Debug, Default)]
pub(super) struct ScanOutput {
    pub(super) log_start: LogStartDetector,
    pub(super) records: VecDeque<Record>,
    pub(super) counts: MessageCounts,
}

impl ScanOutput {
    /// Adds what a line says, or returns that it may go on in the next.
    pub(super) fn add(
        &mut self,
        parsed: Line,
        line: &[u8],
        is_too_long: bool,
        position: Position,
    ) -> Option<(Header, Certainty)> {
        let (header, message) = match parsed {
            Line::Partial(_, Certainty::Possible) if is_too_long => return None,
            Line::Whole(header, _) | Line::Partial(header, _) | Line::Damaged(header, _)
                if is_too_long =>
            {
                (header, damaged(Damage::LineTooLong, line))
            }
            Line::Whole(header, message) => (header, message),
            Line::Partial(header, certainty) => return Some((header, certainty)),
            Line::Damaged(header, damage) => (header, damaged(damage, line)),
            Line::Foreign => {
                self.counts.foreign_lines += 1;
                return None;
            }
            Line::Other => return None,
        };
        self.put(header, message, position, 1);
        None
    }

    /// Adds what something says that does not go on in the next line.
    pub(super) fn add_complete(
        &mut self,
        parsed: Line,
        line: &[u8],
        is_too_long: bool,
        position: Position,
    ) {
        if let Some((header, Certainty::Certain)) = self.add(parsed, line, is_too_long, position) {
            let message = damaged(Damage::CutShort, line);
            self.put(header, message, position, 1);
        }
    }

    pub(super) fn put(&mut self, header: Header, message: Message, position: Position, lines: u8) {
        self.counts.add(&message);
        self.records.push_back(Record {
            line: position.line,
            offset: position.offset,
            lines,
            stamp: header.stamp,
            host: header.host,
            caller: header.caller,
            message,
        });
    }
}

pub(super) fn damaged(damage: Damage, line: &[u8]) -> Message {
    let line = line.trim_ascii();
    let text = line[..line.len().min(SHOWN_BYTES)].to_vec();
    Message::Damaged { damage, text }
}
