//! Input whose lines are of a length that a table can have, so that reading one line, or one row,
//! cannot take all memory.

use std::io::{self, BufRead, Read};

/// Longer than any command line that a comment could hold.
const LONGEST_LINE_BYTES: usize = 16 << 20;

/// Passes its input on, and fails in the middle of a line that is too long.
pub(super) struct BoundedLines<R> {
    input: R,
    /// How much of the current line has been read.
    line_bytes: usize,
}

impl<R: BufRead> BoundedLines<R> {
    pub(super) fn new(input: R) -> Self {
        BoundedLines {
            input,
            line_bytes: 0,
        }
    }
}

impl<R: BufRead> BufRead for BoundedLines<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.line_bytes > LONGEST_LINE_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "a line is longer than {} MiB: this is no table",
                    LONGEST_LINE_BYTES >> 20
                ),
            ));
        }
        self.input.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        // What is consumed lies in the buffer already, so nothing is read here.
        let consumed = self.input.fill_buf().map_or(&[][..], |all| &all[..amount]);
        self.line_bytes = match consumed.iter().rposition(|&byte| byte == b'\n') {
            Some(end) => amount - end - 1,
            None => self.line_bytes + amount,
        };
        self.input.consume(amount);
    }
}

impl<R: BufRead> Read for BoundedLines<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(to)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_lines_pass_and_a_long_one_does_not() {
        let line = [b"x".repeat(LONGEST_LINE_BYTES - 1), b"\n".to_vec()].concat();
        let lines = io::Read::chain(&line[..], &line[..]);
        let mut read = vec![];
        let mut input = BoundedLines::new(io::BufReader::new(lines));
        input.read_to_end(&mut read).unwrap();
        assert_eq!(read, line.repeat(2));

        let endless = BoundedLines::new(io::BufReader::new(io::repeat(b'x')));
        let read = io::copy(&mut { endless }, &mut io::sink());
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
