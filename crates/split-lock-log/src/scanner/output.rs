//! What has been found so far, in whatever form it came.

use std::collections::VecDeque;

use crate::header::{Header, Origin};
use crate::journal::Entry;
use crate::line::{Certainty, Line, unescape};
use crate::log_start::LogStartDetector;
use crate::oops::Collector;
use crate::patterns::Patterns;
use crate::position::Position;
use crate::{Damage, Message, MessageCounts, Record};

const SHOWN_BYTES: usize = 256;

#[derive(Debug, Default)]
pub(super) struct ScanOutput {
    pub(super) log_start: LogStartDetector,
    pub(super) records: VecDeque<Record>,
    pub(super) counts: MessageCounts,
    /// An oops that has begun, and where.
    oops: Option<(Header, Collector, Position)>,
}

impl ScanOutput {
    /// Whether also those lines have to be seen that hold no message.
    pub(super) fn needs_every_line(&self) -> bool {
        self.oops.is_some() || !self.log_start.has_decided() || self.log_start.is_quoted_printable()
    }

    pub(super) fn see_line(&mut self, line: &[u8]) {
        self.log_start.add_line(line);
        if self.oops.is_some() {
            let (header, text) = Header::read(line);
            let text = match header.is_escaped {
                true => unescape(text),
                false => text.to_vec(),
            };
            self.add_to_oops(header.origin, &text);
        }
    }

    /// The same for an entry that is not in one line.
    pub(super) fn see_entry(&mut self, entry: &Entry) {
        self.log_start.add_entry(entry);
        if self.oops.is_none() {
            return;
        }
        for text in entry.message.split(|&byte| byte == b'\n') {
            self.add_to_oops(entry.origin, Header::read(text).1);
        }
    }

    fn add_to_oops(&mut self, origin: Origin, text: &[u8]) {
        if let Some((_, collector, _)) = &mut self.oops
            && origin != Origin::Program
            && collector.add(text)
        {
            self.end_oops();
        }
    }

    /// No more lines belong to the oops that has begun.
    pub(super) fn end_oops(&mut self) {
        if let Some((header, collector, position)) = self.oops.take() {
            let message = Message::KernelSplitLock(Box::new(collector.finish()));
            self.put_now(header, message, position, 1);
        }
    }

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
            Line::Whole(header, ..) | Line::Partial(header, _) | Line::Damaged(header, _)
                if is_too_long =>
            {
                (header, damaged(Damage::LineTooLong, line))
            }
            Line::Whole(header, message, _) => (header, message),
            Line::Oops(header, collector) => {
                self.end_oops();
                self.oops = Some((header, collector, position));
                return None;
            }
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

    /// Adds what an entry of a journal says.
    pub(super) fn add_entry(
        &mut self,
        entry: &Entry,
        is_too_long: bool,
        position: Position,
        patterns: &Patterns,
    ) {
        self.see_entry(entry);
        if patterns.any_in(&entry.message) {
            Line::each_of_entry(entry, |line| {
                self.add_complete(line, &entry.message, is_too_long, position);
            });
        }
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
        // A line of another message is none of an oops, and comes after it.
        self.end_oops();
        self.put_now(header, message, position, lines);
    }

    fn put_now(&mut self, header: Header, message: Message, position: Position, lines: u8) {
        self.counts.add(&message);
        self.records.push_back(Record {
            line: position.line,
            offset: position.offset,
            lines,
            stamp: header.stamp,
            host: header.host,
            caller: header.caller,
            lacks_prefix: header.lacks_prefix,
            message,
        });
    }
}

pub(super) fn damaged(damage: Damage, line: &[u8]) -> Message {
    let line = line.trim_ascii();
    let text = line[..line.len().min(SHOWN_BYTES)].to_vec();
    Message::Damaged { damage, text }
}
