//! From chunks of bytes to records.

use std::collections::VecDeque;

use super::beginning::{Beginning, Judge};
use super::header::Header;
use super::line::{Line, Part};
use super::needles::{Hits, Needles};
use super::wrapped::{Absorbed, Open};
use super::{Damage, Message, Record, Tally};

/// Of a longer line only the beginning is looked at; the kernel's have a few hundred bytes.
pub const MAX_LINE_BYTES: usize = 64 << 10;

/// So much of a damaged line is shown.
const SHOWN_BYTES: usize = 256;

/// The parser, without any I/O: bytes go in with [`feed`](Self::feed), in chunks of any size, and records
/// come out of [`take`](Self::take).
///
/// It keeps a line at most, and the records that have not been taken.
#[derive(Debug, Default)]
pub struct Scanner {
    /// Known with the first byte.
    needles: Option<Needles>,
    judge: Judge,
    /// The beginning of a line whose end has not come yet.
    carry: Vec<u8>,
    /// Bytes of that line, those that were not kept included.
    carry_bytes: u64,
    open: Option<Open>,
    lines_before: u64,
    bytes_before: u64,
    records: VecDeque<Record>,
    tally: Tally,
    foreign_lines: u64,
}

impl Scanner {
    /// At the beginning of a log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on with the next bytes.
    pub fn feed(&mut self, chunk: &[u8]) {
        let Some(&first) = chunk.first() else { return };
        let needles = self.needles.take();
        let needles = needles.unwrap_or_else(|| Needles::for_log(first));
        let rest = self.end_carried(chunk, &needles);
        let whole = memchr::memrchr(b'\n', rest).map_or(0, |last| last + 1);
        let (block, tail) = rest.split_at(whole);
        self.block(block, &needles);
        self.carry(tail);
        self.needles = Some(needles);
    }

    /// There are no more bytes. What has not ended by now is damaged.
    pub fn finish(&mut self) {
        if self.carry_bytes > 0 {
            self.feed(b"\n");
        }
        self.close();
    }

    /// The next record, if there is one already.
    pub fn take(&mut self) -> Option<Record> {
        self.records.pop_front()
    }

    /// How many there were of each kind.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Lines of programs that have one of the messages in them, and are no records.
    #[must_use]
    pub fn foreign_lines(&self) -> u64 {
        self.foreign_lines
    }

    /// Whether the log begins where the kernel does.
    #[must_use]
    pub fn beginning(&self) -> Beginning {
        self.judge.verdict()
    }

    /// Ends the line that has begun in earlier chunks, and returns what comes after it.
    fn end_carried<'a>(&mut self, chunk: &'a [u8], needles: &Needles) -> &'a [u8] {
        if self.carry_bytes == 0 {
            return chunk;
        }
        let Some(end) = memchr::memchr(b'\n', chunk) else {
            return chunk;
        };
        self.carry(&chunk[..end]);
        let line = std::mem::take(&mut self.carry);
        let bytes = std::mem::take(&mut self.carry_bytes);
        let is_too_long = bytes > MAX_LINE_BYTES as u64;
        self.line(
            &line,
            is_too_long,
            (self.lines_before + 1, self.bytes_before),
            needles,
        );
        self.lines_before += 1;
        self.bytes_before += bytes + 1;
        self.carry = line;
        self.carry.clear();
        &chunk[end + 1..]
    }

    fn carry(&mut self, bytes: &[u8]) {
        let room = MAX_LINE_BYTES - self.carry.len();
        self.carry
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.carry_bytes += bytes.len() as u64;
    }

    /// Goes through whole lines.
    fn block(&mut self, block: &[u8], needles: &Needles) {
        let mut hits = Hits::new(needles);
        let (mut at, mut counted) = (0, 0);
        while at < block.len() {
            let start = if self.needs_every_line() {
                at
            } else if let Some(hit) = hits.at_or_after(at, block, needles) {
                memchr::memrchr(b'\n', &block[at..hit]).map_or(at, |newline| at + newline + 1)
            } else {
                break;
            };
            let length = memchr::memchr(b'\n', &block[start..]).unwrap_or(block.len() - start);
            self.lines_before += newlines(&block[counted..start]);
            counted = start;
            let place = (self.lines_before + 1, self.bytes_before + start as u64);
            let kept = length.min(MAX_LINE_BYTES);
            self.line(&block[start..start + kept], kept < length, place, needles);
            at = start + length + 1;
        }
        self.lines_before += newlines(&block[counted..]);
        self.bytes_before += block.len() as u64;
    }

    fn needs_every_line(&self) -> bool {
        self.open.is_some() || !self.judge.has_decided()
    }

    fn line(&mut self, line: &[u8], is_too_long: bool, place: (u64, u64), needles: &Needles) {
        if !self.judge.has_decided() {
            self.judge.look(line);
        }
        if self.goes_on(line, is_too_long) || !needles.are_in(line) {
            return;
        }
        match Line::read(line) {
            Line::Other => {}
            Line::Foreign => self.foreign_lines += 1,
            Line::Whole(header, _) | Line::Open(header, Part::Sure) | Line::Damaged(header, _)
                if is_too_long =>
            {
                self.damaged(header, Damage::LineTooLong, line, place, 1);
            }
            Line::Whole(header, message) => self.put(header, message, place, 1),
            Line::Open(_, Part::Unsure) if is_too_long => {}
            Line::Open(header, part) => self.open = Some(Open::new(header, part, place, line)),
            Line::Damaged(header, damage) => self.damaged(header, damage, line, place, 1),
        }
    }

    /// Whether the line is part of a message that lines before it have begun.
    fn goes_on(&mut self, line: &[u8], is_too_long: bool) -> bool {
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
                let (place, lines) = (open.place, open.lines);
                self.put(header, message, place, lines);
                self.open = None;
                true
            }
            Absorbed::Held => true,
            Absorbed::Refused => {
                self.close();
                false
            }
        }
    }

    /// Nothing that follows belongs to the open message.
    fn close(&mut self) {
        if let Some(open) = self.open.take()
            && open.part == Part::Sure
        {
            self.damaged(
                open.header,
                Damage::CutShort,
                &open.text,
                open.place,
                open.lines,
            );
        }
    }

    fn damaged(
        &mut self,
        header: Header,
        damage: Damage,
        line: &[u8],
        place: (u64, u64),
        lines: u8,
    ) {
        let line = line.trim_ascii();
        let text = line[..line.len().min(SHOWN_BYTES)].to_vec();
        self.put(header, Message::Damaged { damage, text }, place, lines);
    }

    fn put(&mut self, header: Header, message: Message, place: (u64, u64), lines: u8) {
        self.tally.add(&message);
        self.records.push_back(Record {
            line: place.0,
            offset: place.1,
            lines,
            stamp: header.stamp,
            host: header.host,
            caller: header.caller,
            message,
        });
    }
}

fn newlines(text: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', text).count() as u64
}
