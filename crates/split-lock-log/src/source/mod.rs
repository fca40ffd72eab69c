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

/// The bytes of a log, decompressed.
///
/// Compression (gzip, xz, Zstandard) is known by a file's first bytes, whatever its name is. However
/// much a file expands to, it is never in memory as a whole.
pub struct Source {
    bytes: Box<dyn Read + Send>,
}

impl Source {
    /// Opens a file, a pipe, or `/dev/kmsg`, which ends with the last message that is there.
    ///
    /// # Errors
    /// If it cannot be opened, or read.
    pub fn open(path: &Path) -> io::Result<Self> {
        if Kmsg::is_at(path)? {
            let bytes = Box::new(Kmsg::open(path)?);
            return Ok(Source { bytes });
        }
        Self::of(File::open(path)?)
    }

    /// Opens what should be `/dev/kmsg`. In containers it may be something else, from which a read would wait for ever.
    ///
    /// # Errors
    /// If it cannot be opened, or is something else.
    pub fn kernel(path: &Path) -> io::Result<Self> {
        if !Kmsg::is_at(path)? {
            return Err(io::Error::other("it is not the kernel's log"));
        }
        let bytes = Box::new(Kmsg::open(path)?);
        Ok(Source { bytes })
    }

    /// Of something that can be read. It looks at its first bytes.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(mut input: impl Read + Send + 'static) -> io::Result<Self> {
        let (first, form) = Form::of(&mut input)?;
        let input = io::Cursor::new(first).chain(input);
        let bytes: Box<dyn Read + Send> = match form {
            None => Box::new(input),
            Some(Form::Gzip) => Box::new(MultiGzDecoder::new(input)),
            Some(Form::Xz) => {
                let input = BufReader::new(input);
                Box::new(XzReader::new_mem_limit(input, true, MOST_MEMORY_KIB))
            }
            Some(Form::Zstd) => Box::new(Zstd::new(input, u64::from(MOST_MEMORY_KIB) << 10)),
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

/// How it is compressed.
#[derive(Debug, Clone, Copy)]
enum Form {
    Gzip,
    Xz,
    Zstd,
}

const MAGIC: [(&[u8], Form); 3] = [
    (&[0x1f, 0x8b], Form::Gzip),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Form::Xz),
    (&[0x28, 0xb5, 0x2f, 0xfd], Form::Zstd),
];

impl Form {
    /// Reads no more than it must: a pipe may have nothing more to say for a long time.
    fn of(input: &mut impl Read) -> io::Result<(Vec<u8>, Option<Self>)> {
        let mut first = vec![];
        loop {
            let found = MAGIC.iter().find(|(magic, _)| first == *magic);
            let may_be = MAGIC.iter().any(|(magic, _)| magic.starts_with(&first));
            if found.is_some() || !may_be {
                return Ok((first, found.map(|&(_, form)| form)));
            }
            let mut byte = [0];
            match input.read(&mut byte) {
                Ok(0) => return Ok((first, None)),
                Ok(_) => first.push(byte[0]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
