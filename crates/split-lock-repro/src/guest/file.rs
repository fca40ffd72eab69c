//! A flat binary from a file, as a guest.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Register;
use crate::layout::{FREE_START, MEMORY_SIZE};

/// A flat binary: bytes that are put at the load address, and started there.
///
/// It starts in 64-bit mode, at its first byte, with:
/// - RSP at 0x2_0000, below which 64 KiB are free for its stack;
/// - RSI at 0x3_0800, a cache line that it can use, unless the file was loaded over it;
/// - every other general register zero, IOPL 3 and interrupts off;
/// - SSE enabled, no interrupt table: an exception ends the guest.
///
/// It must not end. The one exit that it may make is to write to port 0xe9, at any privilege level.
///
/// | guest address | what |
/// |---|---|
/// | 0 | not mapped: a stray null pointer is an exception |
/// | 0x1000 | descriptors, TSS, page tables, exception handlers: CPL0 only |
/// | 0x1_0000 | stack, down from 0x2_0000 |
/// | 0x2_0000 | its own, up to 16 MiB |
/// | 16 MiB | mapped up to 1 GiB, but there is no memory: an access is an MMIO exit |
/// | 0x2000_0000 | 2 MiB of memory that all vCPUs of a VM share |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFile {
    path: PathBuf,
    options: FileOptions,
    code: Vec<u8>,
}

/// How to run a flat binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileOptions {
    /// Guest address of its first byte, which is also its entry. 1 MiB by default.
    pub load_address: u64,
    /// Where it counts its turns. RCX by default.
    pub counter: Register,
}

/// Why a file cannot be a guest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuestFileError {
    /// It cannot be read.
    #[error("cannot read the guest {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no guest, or is none there where it should be loaded.
    #[error("the guest {} {why}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do, as the rest of a sentence.
        why: String,
    },
}

impl Default for FileOptions {
    fn default() -> Self {
        Self {
            load_address: 0x10_0000,
            counter: Register::default(),
        }
    }
}

impl GuestFile {
    /// Reads the file.
    ///
    /// ```
    /// use split_lock_repro::guest::{FileOptions, GuestFile};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("count.bin");
    /// std::fs::write(&path, [0x48, 0xff, 0xc0, 0xeb, 0xfb])?; // 1: inc rax; jmp 1b
    /// let options = FileOptions { counter: "rax".parse()?, ..Default::default() };
    /// let guest = GuestFile::read(&path, options)?;
    /// assert_eq!(guest.code().len(), 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If it cannot be read, is empty, or does not fit where it should go.
    pub fn read(path: impl Into<PathBuf>, options: FileOptions) -> Result<Self, GuestFileError> {
        let path = path.into();
        let load_address = options.load_address;
        if !(FREE_START..MEMORY_SIZE).contains(&load_address) {
            let last = MEMORY_SIZE - 1;
            let why = format!(
                "cannot be loaded at {load_address:#x}: use an address from {FREE_START:#x} to {last:#x}"
            );
            return Err(GuestFileError::Refused { path, why });
        }
        let available = MEMORY_SIZE - load_address;
        let code = match read_at_most(&path, available + 1) {
            Ok(code) => code,
            Err(source) => return Err(GuestFileError::Read { path, source }),
        };
        let why = match code.len() as u64 {
            0 => "is empty: it must hold at least one instruction".to_owned(),
            length if length > available => format!(
                "is too large: loaded at {load_address:#x} it may have {available} bytes at most"
            ),
            _ => {
                return Ok(Self {
                    path,
                    options,
                    code,
                });
            }
        };
        Err(GuestFileError::Refused { path, why })
    }

    /// Where it was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it is run.
    #[must_use]
    pub fn options(&self) -> FileOptions {
        self.options
    }

    /// Its bytes.
    #[must_use]
    pub fn code(&self) -> &[u8] {
        &self.code
    }
}

/// Stops in time, whatever the file is: a device may have no end.
fn read_at_most(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![];
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file_of(size: usize) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&vec![0x90; size]).unwrap();
        file
    }

    fn at(load_address: u64) -> FileOptions {
        FileOptions {
            load_address,
            ..Default::default()
        }
    }

    fn refusal(path: &Path, options: FileOptions) -> String {
        let error = GuestFile::read(path, options).unwrap_err().to_string();
        assert!(error.contains(&*path.to_string_lossy()), "{error}");
        error
    }

    #[test]
    fn an_empty_file_is_refused() {
        assert!(refusal(file_of(0).path(), at(0x10_0000)).contains("is empty"));
    }

    #[test]
    fn a_file_may_fill_memory_to_its_last_byte_and_no_further() {
        let last_page = at(MEMORY_SIZE - 4096);
        assert!(GuestFile::read(file_of(4096).path(), last_page).is_ok());
        let error = refusal(file_of(4097).path(), last_page);
        assert!(error.contains("4096 bytes at most"), "{error}");
    }

    #[test]
    fn a_file_without_end_is_refused_and_not_read_for_ever() {
        assert!(refusal(Path::new("/dev/zero"), at(0x10_0000)).contains("too large"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        assert!(refusal(Path::new("/nonexistent/guest"), at(0x10_0000)).contains("No such file"));
        let directory = tempfile::tempdir().unwrap();
        assert!(refusal(directory.path(), at(0x10_0000)).contains("directory"));
    }

    #[test]
    fn a_load_address_outside_the_free_memory_is_refused_with_the_range() {
        let file = file_of(1);
        for outside in [0, FREE_START - 1, MEMORY_SIZE, u64::MAX] {
            let error = refusal(file.path(), at(outside));
            assert!(error.contains("from 0x20000 to 0xffffff"), "{error}");
        }
        for inside in [FREE_START, MEMORY_SIZE - 1] {
            assert!(GuestFile::read(file.path(), at(inside)).is_ok());
        }
    }
}
