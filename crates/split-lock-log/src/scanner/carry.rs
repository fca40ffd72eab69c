//! Something whose end has not come yet.

use super::MAX_LINE_BYTES;

/// The beginning of a line, or of another thing, that comes in pieces. Of a long one only the beginning is kept.
#[derive(Debug, Default)]
pub(crate) struct Carry {
    kept: Vec<u8>,
    /// Those that were not kept included.
    bytes: u64,
}

impl Carry {
    pub(crate) fn push(&mut self, piece: &[u8]) {
        let room = MAX_LINE_BYTES - self.kept.len();
        self.kept.extend_from_slice(&piece[..piece.len().min(room)]);
        self.bytes += piece.len() as u64;
    }

    /// For the next one; memory that was needed once is kept.
    pub(crate) fn clear(&mut self) {
        self.kept.clear();
        self.bytes = 0;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub(crate) fn is_too_long(&self) -> bool {
        self.bytes > MAX_LINE_BYTES as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn kept(&self) -> &[u8] {
        &self.kept
    }
}
