//! The kernel's own buffer.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{OFlags, major, minor};
use rustix::io::Errno;

/// `/dev/kmsg`: each read is one record, and what is there ends where a read would wait.
#[derive(Debug)]
pub(super) struct Kmsg {
    device: File,
}

impl Kmsg {
    pub(super) fn is_at(path: &Path) -> io::Result<bool> {
        let metadata = fs::metadata(path)?;
        let device = metadata.rdev();
        let is_kmsg = (major(device), minor(device)) == (1, 11);
        Ok(metadata.file_type().is_char_device() && is_kmsg)
    }

    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let device = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)?;
        Ok(Kmsg { device })
    }
}

impl Read for Kmsg {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.device.read(to);
            let errno = read.as_ref().err().and_then(Errno::from_io_error);
            match errno {
                Some(Errno::AGAIN) => return Ok(0),
                // The record has been overwritten before it could be read: the next one will do.
                Some(Errno::PIPE) => {}
                _ => return read,
            }
        }
    }
}
