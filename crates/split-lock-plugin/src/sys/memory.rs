//! Memory that is mapped for as long as the process lives.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr;
use std::slice;
use std::sync::atomic::AtomicU64;

/// A new file for this process, of so many bytes that are zero, shared with the processes that it forks.
///
/// # Errors
/// If there cannot be one, or no room for all of it.
pub(crate) fn create_records(folder: &Path, bytes: usize) -> io::Result<&'static [AtomicU64]> {
    let file = new_file(folder)?;
    // Without room a store to mapped memory would end the program.
    // SAFETY: it takes numbers alone.
    let error = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes as libc::off_t) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    map(bytes, libc::MAP_SHARED, file.as_raw_fd())
}

/// So many bytes that are zero. Those that are never touched take no memory.
///
/// # Errors
/// If there is no room in the address space.
pub(crate) fn zeroed(bytes: usize) -> io::Result<&'static [AtomicU64]> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    map(bytes, flags, -1)
}

fn new_file(folder: &Path) -> io::Result<File> {
    const MOST_ATTEMPTS: u32 = 10_000;
    let pid = std::process::id();
    // A process may execute one program after the other.
    for n in 0..MOST_ATTEMPTS {
        let path = folder.join(format!("{pid}-{n}.sites"));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other,
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn map(bytes: usize, flags: i32, descriptor: i32) -> io::Result<&'static [AtomicU64]> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, wherever there is room, replaces nothing.
    let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, flags, descriptor, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping begins at a page, has so many bytes that are there (a file's are allocated, and nobody makes it
    // smaller), and stays to the end of the process. All accesses to it, of other processes too, are atomic.
    Ok(unsafe { slice::from_raw_parts(start.cast(), bytes / size_of::<AtomicU64>()) })
}
