//! Zstandard: any number of frames, one after the other.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

pub(super) struct Zstd<R> {
    input: BufReader<R>,
    decoder: FrameDecoder,
}

impl<R: Read> Zstd<R> {
    /// A window larger than this is refused.
    pub(super) fn new(input: R, largest_window_bytes: u64) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(largest_window_bytes);
        Zstd {
            input: BufReader::new(input),
            decoder,
        }
    }

    /// Whether there is another frame; it begins it.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.input.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.input) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = (&mut self.input).take(length.into());
                    io::copy(&mut skipped, &mut io::sink())?;
                }
                Err(error) => return Err(invalid(&error)),
            }
        }
        Ok(false)
    }

    fn check_sum(&self) -> io::Result<()> {
        match self.decoder.get_checksum_from_data() {
            Some(sum) if Some(sum) != self.decoder.get_calculated_checksum() => {
                Err(invalid(&"the checksum of its content is wrong"))
            }
            _ => Ok(()),
        }
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.decoder.read(to)?;
            if count > 0 || to.is_empty() {
                return Ok(count);
            }
            if !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                let decoded = self.decoder.decode_blocks(&mut self.input, one);
                decoded.map_err(|error| invalid(&error))?;
                continue;
            }
            self.check_sum()?;
            if !self.next_frame()? {
                return Ok(0);
            }
        }
    }
}

fn invalid(why: &dyn fmt::Display) -> io::Error {
    let why = format!("as Zstandard it cannot be decompressed: {why}");
    io::Error::new(io::ErrorKind::InvalidData, why)
}
