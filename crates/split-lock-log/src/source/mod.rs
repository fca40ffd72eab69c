//! Where logs are: files, pipes, the kernel itself, and what logrotate has compressed.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;

mod kmsg;
mod zstd;

use kmsg::Kmsg;
use zstd::Zstd;

/// What a decompressor may need at most: `xz -9` has a dictionary of 64 MiB, and `zstd` without `--ultra` or
/// `--long` a window of 8 MiB.
const MOST_MEMORY_KIB: u32 = 80 << 10;

type Bytes = Box<dyn Read + Send>;

/// The bytes of a log, decompressed.
///
/// Compression (gzip, xz, Zstandard) is known by a file's first bytes, whatever its name is. However
/// much a file expands to, it is never in memory as a whole.
pub struct Source {
    bytes: Bytes,
}

impl Source {
    /// Opens a file, a pipe, or `/dev/kmsg`, which ends with the last message that is there.
    ///
    /// # Errors
    /// If it cannot be opened, or read.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(kmsg) = Kmsg::open(path)? {
            let bytes = Box::new(kmsg);
            return Ok(Source { bytes });
        }
        Self::from_reader(File::open(path)?)
    }

    /// Opens what should be `/dev/kmsg`. In containers it may be something else, from which a read would wait for ever.
    ///
    /// # Errors
    /// If it cannot be opened, or is something else.
    pub fn open_kmsg(path: &Path) -> io::Result<Self> {
        let not_it = || io::Error::other("it is not the kernel's log");
        let bytes = Box::new(Kmsg::open(path)?.ok_or_else(not_it)?);
        Ok(Source { bytes })
    }

    /// Reads from anything; its first bytes are read at once.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn from_reader(mut input: impl Read + Send + 'static) -> io::Result<Self> {
        let (first, decompress) = look_at_magic(&mut input)?;
        let bytes: Bytes = Box::new(io::Cursor::new(first).chain(input));
        let bytes = match decompress {
            Some(decompress) => decompress(bytes),
            None => bytes,
        };
        Ok(Source { bytes })
    }
}

impl Read for Source {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(to)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

type Decompress = fn(Bytes) -> Bytes;

/// What compressed files begin with.
const MAGIC: [(&[u8], Decompress); 3] = [
    (b"\x1f\x8b", |input| Box::new(MultiGzDecoder::new(input))),
    (b"\xfd7zXZ\0", |input| {
        let input = BufReader::new(input);
        Box::new(XzReader::new_mem_limit(input, true, MOST_MEMORY_KIB))
    }),
    (b"\x28\xb5\x2f\xfd", |input| {
        Box::new(Zstd::new(input, u64::from(MOST_MEMORY_KIB) << 10))
    }),
];

/// What a log begins with, and how it is decompressed, if it must be.
#[expect(
    clippy::unbuffered_bytes,
    reason = "no more is read than must be: a pipe may have nothing more to say for a long time"
)]
fn look_at_magic(input: &mut impl Read) -> io::Result<(Vec<u8>, Option<Decompress>)> {
    let mut first = vec![];
    for byte in input.bytes() {
        first.push(byte?);
        if let Some(&(_, decompress)) = MAGIC.iter().find(|(magic, _)| first == *magic) {
            return Ok((first, Some(decompress)));
        }
        if !MAGIC.iter().any(|(magic, _)| magic.starts_with(&first)) {
            break;
        }
    }
    Ok((first, None))
}
