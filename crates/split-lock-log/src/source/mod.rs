//! Where logs are: files, pipes, the kernel itself, what logrotate has compressed, and archives of all that.

use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

mod archive;
mod formats;
mod kmsg;
mod utf16;
mod zstd;

pub use archive::{LeftOut, Visit, for_each_log};
use formats::{Counted, Expanded, Format, TAR_HEADER_BYTES};
use kmsg::Kmsg;
use utf16::Utf16;

/// What a decompressor may need at most: `xz -9` has a dictionary of 64 MiB, and `zstd` without `--ultra` or
/// `--long` a window of 8 MiB.
const MOST_MEMORY_KIB: u32 = 80 << 10;

/// Nobody compresses a log more often.
const MOST_LAYERS: usize = 3;

/// So much of a text is looked at to tell what it is.
const HEAD_BYTES: usize = 1024;

type Bytes = Box<dyn Read + Send>;

/// The text of a log: decompressed, and in UTF-8 or what it had in its place.
///
/// What it is (gzip, bzip2, xz, lzma, Zstandard; UTF-16) is known by its first bytes, whatever its name is. However
/// much a file expands to, it is never in memory as a whole, and what expands as no log does is given up.
pub struct Source {
    bytes: Bytes,
}

/// What something turns out to be when its first bytes are read.
enum Opened {
    Text(Source),
    Tar(Bytes),
    /// Not decompressed.
    Zip(Bytes),
}

/// A file, or a pipe, or a terminal: of devices those that have an end.
fn open_file(path: &Path) -> io::Result<File> {
    /// As mknod(1) is given them: zero, full, random, urandom.
    const ENDLESS: [u64; 4] = [0x105, 0x107, 0x108, 0x109];
    let file = File::open(path)?;
    let kind = file.metadata()?;
    if kind.file_type().is_char_device() && ENDLESS.contains(&kind.rdev()) {
        return Err(io::Error::other(
            "it is a device without an end, and no log",
        ));
    }
    Ok(file)
}

impl Source {
    /// Opens a file, a pipe, or `/dev/kmsg`, which ends with the last message that is there.
    ///
    /// # Errors
    /// If it cannot be opened, or read, or is no text.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(kmsg) = Kmsg::open(path)? {
            let bytes = Box::new(kmsg);
            return Ok(Source { bytes });
        }
        Self::from_reader(open_file(path)?)
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
    /// If it cannot be read, or is no text; [`for_each_log`] reads archives.
    pub fn from_reader(input: impl Read + Send + 'static) -> io::Result<Self> {
        match Opened::new(Box::new(input))? {
            Opened::Text(source) => Ok(source),
            Opened::Tar(_) => Err(unsupported("a tar archive", "unpack it first")),
            Opened::Zip(_) => Err(unsupported("a zip archive", "unpack it first")),
        }
    }

    /// What anything is made of, decompressed, whether it is text or not.
    ///
    /// # Errors
    /// If it cannot be read, or is of a kind that is not read.
    pub fn decompressed(input: impl Read + Send + 'static) -> io::Result<Self> {
        let (head, bytes) = layers(Box::new(input))?;
        let bytes = Box::new(Cursor::new(head).chain(bytes));
        Ok(Source { bytes })
    }
}

impl Opened {
    fn new(input: Bytes) -> io::Result<Self> {
        let (head, bytes) = layers(input)?;
        let is_zip = matches!(formats::of(&head), Some(Format::Zip));
        let (is_tar, is_binary) = (formats::is_tar(&head), formats::is_binary(&head));
        let order = utf16::order_of(&head);
        let bytes: Bytes = Box::new(Cursor::new(head).chain(bytes));
        Ok(match order {
            _ if is_zip => Opened::Zip(bytes),
            _ if is_tar => Opened::Tar(bytes),
            Some(order) => Opened::Text(Source {
                bytes: Box::new(Utf16::new(bytes, order)),
            }),
            None if is_binary => {
                return Err(unsupported(
                    "no text, and nothing that is known here",
                    "give the log as text",
                ));
            }
            None => Opened::Text(Source { bytes }),
        })
    }
}

/// The first bytes below all compression, and the others.
fn layers(input: Bytes) -> io::Result<(Vec<u8>, Bytes)> {
    let mut input = input;
    for _ in 0..=MOST_LAYERS {
        let head = head(&mut input)?;
        match formats::of(&head) {
            Some(Format::Compressed(decompress)) => {
                let compressed = Arc::new(AtomicU64::new(0));
                let counted = Counted {
                    inner: Cursor::new(head).chain(input),
                    count: Arc::clone(&compressed),
                };
                input = Box::new(Expanded {
                    inner: decompress(Box::new(counted))?,
                    compressed,
                    expanded: 0,
                });
            }
            Some(Format::Refused(what, instead)) => return Err(unsupported(what, instead)),
            Some(Format::Zip) | None => return Ok((head, input)),
        }
    }
    Err(unsupported(
        "compressed again and again",
        "decompress it first",
    ))
}

fn unsupported(what: &str, instead: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!("it is {what}, which is not read here: {instead}"),
    )
}

/// The first bytes: what one read gives, unless that is too little to tell. A pipe may have nothing more to say for a
/// long time.
fn head(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD_BYTES];
    let mut length = 0;
    while length < head.len() {
        match input.read(&mut head[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        let so_far = &head[..length];
        // The name that a tar archive begins with has zeros behind it, and so has UTF-16.
        let may_be_more =
            formats::may_begin_one(so_far) || (so_far.contains(&0) && length < TAR_HEADER_BYTES);
        if !may_be_more {
            break;
        }
    }
    head.truncate(length);
    Ok(head)
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
