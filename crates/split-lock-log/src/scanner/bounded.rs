//! A buffer that keeps only the first 64 KiB of a line or value.

/// Of a longer line only the beginning is looked at; the kernel's have a few hundred bytes.
pub const MAX_LINE_BYTES: usize = 64 << 10;

/// The beginning of a line, or of another thing, that comes in pieces. Of a long one only the beginning is kept.
#[derive(Debug, Default)]
pub(super) struct BoundedBuffer {
    kept: Vec<u8>,
    /// Those that were not kept included.
    bytes: u64,
}

impl BoundedBuffer {
    pub(super) fn push(&mut self, piece: &[u8]) {
        let room = MAX_LINE_BYTES - self.kept.len();
        self.kept.extend_from_slice(&piece[..piece.len().min(room)]);
        self.bytes += piece.len() as u64;
    }

    /// For the next one; memory that was needed once is kept.
    pub(super) fn clear(&mut self) {
        self.kept.clear();
        self.bytes = 0;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub(super) fn is_too_long(&self) -> bool {
        self.bytes > MAX_LINE_BYTES as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn kept(&self) -> &[u8] {
        &self.kept
    }
}
