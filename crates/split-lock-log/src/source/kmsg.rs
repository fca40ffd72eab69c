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
    /// `None` if something else is there.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let metadata = fs::metadata(path)?;
        let number = metadata.rdev();
        if !metadata.file_type().is_char_device() || (major(number), minor(number)) != (1, 11) {
            return Ok(None);
        }
        let device = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)?;
        Ok(Some(Kmsg { device }))
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
