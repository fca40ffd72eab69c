//! The records of whatever can be read.

use std::io::{self, Read};

use crate::{LogStart, MessageCounts, Record, Scanner};

/// Large enough for the search to be at its full speed, and small enough for the CPU's caches.
const CHUNK_BYTES: usize = 256 << 10;

/// The records of a log, one after the other. After an error there are no more.
#[derive(Debug)]
pub struct Records<R> {
    input: R,
    chunk: Vec<u8>,
    scanner: Scanner,
    has_ended: bool,
    /// What has ended it too early; what was read before comes first.
    error: Option<io::Error>,
}

impl<R: Read> Records<R> {
    /// Reads `input` to its end, in large chunks, so it needs no `BufReader`.
    pub fn new(input: R) -> Self {
        Records {
            input,
            chunk: vec![0; CHUNK_BYTES],
            scanner: Scanner::new(),
            has_ended: false,
            error: None,
        }
    }

    /// How many messages there were of each kind so far.
    #[must_use]
    pub fn counts(&self) -> MessageCounts {
        self.scanner.counts()
    }

    /// Whether the log begins where the kernel does, as far as it has been read.
    #[must_use]
    pub fn log_start(&self) -> LogStart {
        self.scanner.log_start()
    }

    fn read_on(&mut self) {
        match self.input.read(&mut self.chunk) {
            Ok(0) => {
                self.has_ended = true;
                self.scanner.finish();
            }
            Ok(count) => {
                self.scanner.feed(&self.chunk[..count]);
                // Whoever writes line by line may not write another for a long time.
                if count < CHUNK_BYTES && self.chunk[..count].ends_with(b"\n") {
                    self.scanner.flush();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                self.has_ended = true;
                self.scanner.finish();
                self.error = Some(error);
            }
        }
    }
}

impl<R: Read> Iterator for Records<R> {
    type Item = io::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.scanner.take() {
                return Some(Ok(record));
            }
            if self.has_ended {
                return self.error.take().map(Err);
            }
            self.read_on();
        }
    }
}
