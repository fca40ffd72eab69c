//! Files below a folder.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{MOST_NAMES, bounded};

/// A folder, taken for the root of a machine's files.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    is_live: bool,
}

impl Folder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let open = |path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            fs::open(path, flags, Mode::empty())
        };
        let fd = open(path)?;
        // Names do not tell: each `/proc/PID/root` reads as `/`, also that of a container.
        let is_live = is_same(&fd, &open(Path::new("/"))?)?;
        Ok(Folder { fd, is_live })
    }

    pub(super) fn is_live(&self) -> bool {
        self.is_live
    }

    /// Opens a plain file. It is looked at before it is opened for reading, since that alone can have effects.
    pub(super) fn open_file(&self, path: &Path) -> io::Result<File> {
        let file = self.at(path, OFlags::PATH)?;
        let kind = FileType::from_raw_mode(fs::fstat(&file)?.st_mode);
        if kind != FileType::RegularFile {
            return Err(io::Error::other(format!("it is {}", name(kind))));
        }
        let file = self.at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        // Somebody may have put another one there since.
        if FileType::from_raw_mode(fs::fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it changes while it is read"));
        }
        Ok(file.into())
    }

    pub(super) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        bounded(self.open_file(path)?)
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let folder = self.at(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = vec![];
        for entry in Dir::new(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
            if names.len() == MOST_NAMES {
                break;
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    pub(super) fn link(&self, path: &Path) -> io::Result<PathBuf> {
        let link = self.at(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let target = match fs::readlinkat(&link, "", vec![]) {
            // That is how it says that it is no link.
            Err(Errno::NOENT | Errno::INVAL) => return Err(io::Error::other("it is no link")),
            target => target?,
        };
        Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
    }

    pub(super) fn has(&self, path: &Path) -> io::Result<()> {
        self.at(path, OFlags::PATH | OFlags::NOFOLLOW).map(drop)
    }

    fn at(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        // From `/` nothing leads outside, and old kernels and strict sandboxes lack the other call.
        if self.is_live {
            return Ok(fs::openat(&self.fd, path, flags, Mode::empty())?);
        }
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match fs::openat2(&self.fd, path, flags, Mode::empty(), resolve) {
            Err(Errno::NOSYS) => Err(io::Error::other(
                "this kernel cannot keep to a folder (openat2 came with Linux 5.6)",
            )),
            fd => Ok(fd?),
        }
    }
}

fn is_same(one: &OwnedFd, other: &OwnedFd) -> io::Result<bool> {
    let place = |fd: &OwnedFd| -> io::Result<_> {
        let stat = fs::fstat(fd)?;
        Ok((stat.st_dev, stat.st_ino))
    };
    Ok(place(one)? == place(other)?)
}

fn name(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "a folder",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "no plain file",
    }
}
