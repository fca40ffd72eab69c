//! What has been found so far, in whatever form it came.

use std::collections::VecDeque;

use crate::beginning::Judge;
use crate::header::Header;
use crate::line::{Line, Part};
use crate::{Damage, Message, Record, Tally};

/// So much of a damaged line is shown.
const SHOWN_BYTES: usize = 256;

/// Where something begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Number of its line, from 1.
    pub(crate) line: u64,
    /// Bytes before it.
    pub(crate) offset: u64,
}

impl Place {
    pub(super) const FIRST: Place = Place { line: 1, offset: 0 };

    /// Goes past these bytes.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        self.line += newlines(bytes);
        self.offset += bytes.len() as u64;
    }
}

pub(super) fn newlines(text: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', text).count() as u64
}

#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) judge: Judge,
    pub(super) records: VecDeque<Record>,
    pub(super) tally: Tally,
    pub(super) foreign_lines: u64,
}

impl Findings {
    /// Adds what a line says, or returns that it may go on in the next.
    pub(super) fn add(
        &mut self,
        said: Line,
        line: &[u8],
        is_too_long: bool,
        place: Place,
    ) -> Option<(Header, Part)> {
        match said {
            Line::Other => {}
            Line::Foreign => self.foreign_lines += 1,
            Line::Whole(header, _) | Line::Open(header, Part::Sure) | Line::Damaged(header, _)
                if is_too_long =>
            {
                self.damaged(header, Damage::LineTooLong, line, place, 1);
            }
            Line::Whole(header, message) => self.put(header, message, place, 1),
            Line::Open(_, Part::Unsure) if is_too_long => {}
            Line::Open(header, part) => return Some((header, part)),
            Line::Damaged(header, damage) => self.damaged(header, damage, line, place, 1),
        }
        None
    }

    /// Adds what something says that does not go on in the next line.
    pub(super) fn add_complete(
        &mut self,
        said: Line,
        line: &[u8],
        is_too_long: bool,
        place: Place,
    ) {
        if let Some((header, Part::Sure)) = self.add(said, line, is_too_long, place) {
            self.damaged(header, Damage::CutShort, line, place, 1);
        }
    }

    pub(super) fn damaged(
        &mut self,
        header: Header,
        damage: Damage,
        line: &[u8],
        place: Place,
        lines: u8,
    ) {
        let line = line.trim_ascii();
        let text = line[..line.len().min(SHOWN_BYTES)].to_vec();
        self.put(header, Message::Damaged { damage, text }, place, lines);
    }

    pub(super) fn put(&mut self, header: Header, message: Message, place: Place, lines: u8) {
        self.tally.add(&message);
        self.records.push_back(Record {
            line: place.line,
            offset: place.offset,
            lines,
            stamp: header.stamp,
            host: header.host,
            caller: header.caller,
            message,
        });
    }
}
