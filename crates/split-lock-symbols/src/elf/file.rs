//! Files that may be anything: they are looked at and not trusted.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use object::{ReadCache, ReadRef};
use rustix::fs::OFlags;

/// How many bytes are read of one file at most, some of them twice. A kernel with all its debug
/// information is smaller.
const MOST_BYTES: u64 = 1 << 30;

/// An open file, of which nothing is in memory yet.
#[derive(Debug)]
pub(crate) struct UntrustedFile {
    cache: ReadCache<File>,
    left: Cell<u64>,
}

/// What an ELF file's structures ask for, until that is too much: sizes in a hostile file are no
/// reason to allocate as much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LimitedReader<'a> {
    cache: &'a ReadCache<File>,
    left: &'a Cell<u64>,
}

impl UntrustedFile {
    /// # Errors
    /// If it cannot be opened, or is no ordinary file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let cannot_read = || format!("cannot read {}", path.display());
        // Nobody writes to a pipe only because somebody opens it here.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)
            .with_context(cannot_read)?;
        if !file.metadata().with_context(cannot_read)?.is_file() {
            bail!("{}: it is no ordinary file", cannot_read());
        }
        Ok(Self::new(file, MOST_BYTES))
    }

    fn new(file: File, most_bytes: u64) -> Self {
        Self {
            cache: ReadCache::new(file),
            left: Cell::new(most_bytes),
        }
    }

    pub(crate) fn data(&self) -> LimitedReader<'_> {
        LimitedReader {
            cache: &self.cache,
            left: &self.left,
        }
    }
}

impl<'a> ReadRef<'a> for LimitedReader<'a> {
    fn len(self) -> Result<u64, ()> {
        self.cache.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        let left = self.left.get().checked_sub(size).ok_or(())?;
        let bytes = self.cache.read_bytes_at(offset, size)?;
        self.left.set(left);
        Ok(bytes)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        self.cache.read_bytes_at_until(range, delimiter)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A file of 1 TB, of which 1 MB may be read.
    fn sparse() -> UntrustedFile {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 40).unwrap();
        UntrustedFile::new(file, 1 << 20)
    }

    #[test]
    fn a_large_file_is_no_reason_to_read_all_of_it() {
        let source = sparse();
        assert_eq!(source.data().read_bytes_at(1 << 39, 16), Ok(&[0; 16][..]));
        assert_eq!(source.data().read_bytes_at(0, 1 << 39), Err(()));
        assert_eq!(source.data().read_bytes_at(0, u64::MAX), Err(()));
    }

    #[test]
    fn many_parts_that_overlap_are_not_all_read() {
        let source = sparse();
        let parts = (0..100).filter(|&n| source.data().read_bytes_at(n, 1 << 16).is_ok());
        assert_eq!(parts.count(), 16);
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        for path in [&pipe, folder.path(), Path::new("/dev/zero")] {
            let message = UntrustedFile::open(path).unwrap_err().to_string();
            assert!(message.contains("no ordinary file"), "{message}");
        }
        let message = format!(
            "{:#}",
            UntrustedFile::open(Path::new("/missing")).unwrap_err()
        );
        assert!(message.contains("No such file"), "{message}");
    }
}
