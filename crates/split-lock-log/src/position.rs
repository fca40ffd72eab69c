//! Where in a log something stands.

/// The beginning of a line, or of an entry of several lines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    /// Number of the line, from 1.
    pub(crate) line: u64,
    /// Bytes before it.
    pub(crate) offset: u64,
}

impl Position {
    pub(crate) const START: Position = Position { line: 1, offset: 0 };

    pub(crate) fn advance(&mut self, bytes: &[u8]) {
        self.line += memchr::memchr_iter(b'\n', bytes).count() as u64;
        self.offset += bytes.len() as u64;
    }

    /// Goes past a line of so many bytes and its newline.
    pub(crate) fn advance_line(&mut self, bytes: u64) {
        self.line += 1;
        self.offset += bytes + 1;
    }
}
