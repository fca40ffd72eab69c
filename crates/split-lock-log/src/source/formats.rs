//! What files begin with: how they are decompressed, or what they are that is not read.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use lzma_rust2::{LzmaReader, XzReader};

use super::zstd::Zstd;
use super::{Bytes, MOST_MEMORY_KIB};

#[derive(Clone, Copy)]
pub(super) enum Format {
    Compressed(fn(Bytes) -> io::Result<Bytes>),
    Zip,
    /// What it is called, and what to do instead.
    Refused(&'static str, &'static str),
}

const UNPACK: &str = "unpack it first";
const TEXT: &str = "give the text that it is made from";

const UTF_32: Format = Format::Refused(
    "text in UTF-32",
    "`iconv -f UTF-32 -t UTF-8` makes it UTF-8",
);

const FORMATS: &[(&[u8], Format)] = {
    use Format::{Compressed, Refused, Zip};
    &[
        (
            b"\x1f\x8b",
            Compressed(|input| Ok(Box::new(MultiGzDecoder::new(input)))),
        ),
        (
            b"BZh",
            Compressed(|input| Ok(Box::new(MultiBzDecoder::new(input)))),
        ),
        (
            b"\xfd7zXZ\0",
            Compressed(|input| {
                let input = BufReader::new(input);
                Ok(Box::new(XzReader::new_mem_limit(
                    input,
                    true,
                    MOST_MEMORY_KIB,
                )))
            }),
        ),
        (
            b"\x28\xb5\x2f\xfd",
            Compressed(|input| Ok(Box::new(Zstd::new(input, u64::from(MOST_MEMORY_KIB) << 10)))),
        ),
        // The usual properties, and a dictionary of a whole number of 64 KiB.
        (
            b"\x5d\0\0",
            Compressed(|input| {
                let input = BufReader::new(input);
                Ok(Box::new(LzmaReader::new_mem_limit(
                    input,
                    MOST_MEMORY_KIB,
                    None,
                )?))
            }),
        ),
        (b"PK\x03\x04", Zip),
        (b"PK\x05\x06", Zip),
        (
            b"LPKSHHRH",
            Refused(
                "a binary journal of systemd",
                "`journalctl --file FILE -k` prints it",
            ),
        ),
        (
            b"\x04\x22\x4d\x18",
            Refused("compressed by lz4", "`lz4 -dc FILE` prints it"),
        ),
        (
            b"\x89LZO\0",
            Refused("compressed by lzop", "`lzop -dc FILE` prints it"),
        ),
        (
            b"\x1f\x9d",
            Refused("compressed by compress", "`zcat FILE` prints it"),
        ),
        (
            b"LZIP",
            Refused("compressed by lzip", "`lzip -dc FILE` prints it"),
        ),
        (b"7z\xbc\xaf\x27\x1c", Refused("a 7-Zip archive", UNPACK)),
        (b"Rar!", Refused("a RAR archive", UNPACK)),
        (b"!<arch>\n", Refused("an ar archive", UNPACK)),
        (b"070701", Refused("a cpio archive", UNPACK)),
        (b"MSCF", Refused("a cabinet file", UNPACK)),
        (b"%PDF-", Refused("a PDF file", TEXT)),
        (b"\x89PNG", Refused("a picture (PNG)", TEXT)),
        (b"\xff\xd8\xff", Refused("a picture (JPEG)", TEXT)),
        (b"GIF8", Refused("a picture (GIF)", TEXT)),
        (b"{\\rtf", Refused("a document (RTF)", TEXT)),
        (
            b"\xd0\xcf\x11\xe0",
            Refused("a document of Microsoft Office", TEXT),
        ),
        (b"ElfFile\0", Refused("an event log of Windows", TEXT)),
        (
            b"\x7fELF",
            Refused(
                "an ELF file: a program, or a core dump",
                "a core dump's log is what `crash` prints with `log`",
            ),
        ),
        (
            b"KDUMP   ",
            Refused(
                "a crash dump of kdump",
                "`makedumpfile --dump-dmesg FILE out.txt` prints its log",
            ),
        ),
        (b"\x0a\x0d\x0d\x0a", Refused("a capture of packets", TEXT)),
        (b"SQLite format 3\0", Refused("a database of SQLite", TEXT)),
        (b"\xff\xfe\0\0", UTF_32),
        (b"\0\0\xfe\xff", UTF_32),
        (
            b"-----BEGIN PGP MESSAGE",
            Refused("encrypted by PGP", "`gpg -d FILE` prints it"),
        ),
        (
            b"openssl",
            Refused("encrypted by OpenSSL", "decrypt it first"),
        ),
    ]
};

pub(super) fn of(head: &[u8]) -> Option<Format> {
    FORMATS
        .iter()
        .find(|(magic, _)| head.starts_with(magic))
        .map(|&(_, format)| format)
}

/// Whether more bytes could make it one of the formats.
pub(super) fn may_begin_one(head: &[u8]) -> bool {
    FORMATS
        .iter()
        .any(|(magic, _)| magic.len() > head.len() && magic.starts_with(head))
}

/// Where the name of the format of tar archives is.
const TAR_MAGIC: std::ops::Range<usize> = 257..262;

pub(super) const TAR_HEADER_BYTES: usize = 512;

pub(super) fn is_tar(head: &[u8]) -> bool {
    head.get(TAR_MAGIC) == Some(b"ustar")
}

/// Whether this is the beginning of something else than a text: more than one byte in twenty is of a kind that
/// no log has. A thread's name may hold anything, and a file system that was not shut down leaves zeros.
pub(super) fn is_binary(head: &[u8]) -> bool {
    const FEWEST: usize = 32;
    let zeros = head.iter().take_while(|&&byte| byte == 0).count();
    let head = &head[zeros..];
    let is_odd = |byte: &&u8| matches!(byte, 0..=6 | 14..=26 | 28..=31 | 127);
    head.len() >= FEWEST && head.iter().filter(is_odd).count() * 20 > head.len()
}

/// Reads from what expands, and gives up on what expands as no log does.
pub(super) struct Expanded<R> {
    pub(super) inner: R,
    /// What has been read of the compressed bytes.
    pub(super) compressed: Arc<AtomicU64>,
    pub(super) expanded: u64,
}

/// A smaller result is no bomb, however it was made.
const ALWAYS_ALLOWED: u64 = 64 << 20;

/// Logs expand to twenty times their size, and floods of one line to a hundred times.
const MOST_TIMES: u64 = 250;

impl<R: Read> Read for Expanded<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(to)?;
        self.expanded += count as u64;
        let compressed = self.compressed.load(Ordering::Relaxed);
        if self.expanded > ALWAYS_ALLOWED.max(compressed.saturating_mul(MOST_TIMES)) {
            let why = format!(
                "it expands to more than {MOST_TIMES} times its size, as no log does: decompress it yourself if it is one"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(count)
    }
}

pub(super) struct Counted<R> {
    pub(super) inner: R,
    pub(super) count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(to)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
