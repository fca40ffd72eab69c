//! Files in a tar archive: a machine that was captured.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tar::EntryType;

use super::{MOST_BYTES, MOST_NAMES, bounded, plain};
use split_lock_log::Source;

/// All of an archive has to fit in memory.
const MOST_BYTES_IN_ALL: u64 = 256 << 20;

/// No file that is looked for has a longer path. Each folder on the way to a file takes memory.
const LONGEST_PATH: usize = 512;

/// Of a chain of links no more are followed.
const MOST_LINKS: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Archive {
    files: BTreeMap<PathBuf, Vec<u8>>,
    links: BTreeMap<PathBuf, PathBuf>,
    folders: BTreeMap<PathBuf, BTreeSet<OsString>>,
    /// Files that are too long to be kept.
    left_out: BTreeSet<PathBuf>,
}

impl Archive {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is neither a folder nor a tar archive"));
        }
        let bytes = Source::decompressed(File::open(path)?)?.take(MOST_BYTES_IN_ALL);
        Self::read_from(bytes)
            .map_err(|error| io::Error::new(error.kind(), format!("as a tar archive of a machine's files it cannot be read: {error}; what tools have printed goes to --from")))
    }

    fn read_from(bytes: impl Read) -> io::Result<Self> {
        let mut archive = Archive::default();
        for entry in tar::Archive::new(bytes).entries()? {
            let entry = entry?;
            if archive.names() >= MOST_NAMES {
                return Err(io::Error::other("it has too many files"));
            }
            if entry.path_bytes().len() > LONGEST_PATH {
                continue;
            }
            let path = plain(&entry.path()?);
            match entry.header().entry_type() {
                EntryType::Regular => {
                    if entry.size() > MOST_BYTES {
                        archive.enter(&path);
                        archive.left_out.insert(path);
                    } else {
                        archive.add_file(path, bounded(entry)?);
                    }
                }
                EntryType::Symlink => {
                    let target = entry.link_name()?.unwrap_or_default().into_owned();
                    archive.enter(&path);
                    archive.links.insert(path, target);
                }
                EntryType::Directory => {
                    archive.enter(&path);
                    archive.folders.entry(path).or_default();
                }
                _ => {}
            }
        }
        Ok(archive)
    }

    pub(super) fn add_file(&mut self, path: PathBuf, content: Vec<u8>) {
        self.enter(&path);
        self.files.insert(path, content);
    }

    fn names(&self) -> usize {
        self.files.len() + self.links.len() + self.left_out.len() + self.folders.len()
    }

    /// Adds it to the folders that it is in.
    fn enter(&mut self, path: &Path) {
        let mut path = path;
        while let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
            let names = self.folders.entry(parent.to_owned()).or_default();
            if !names.insert(name.to_owned()) {
                break;
            }
            path = parent;
        }
    }

    pub(super) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let path = self.follow(path)?;
        match self.files.get(&path) {
            Some(bytes) => Ok(bytes.clone()),
            None if self.left_out.contains(&path) => Err(io::Error::other("it is too long")),
            None if self.folders.contains_key(&path) => Err(io::Error::other("it is a folder")),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let path = self.follow(path)?;
        let names = self.folders.get(&path).ok_or(io::ErrorKind::NotFound)?;
        Ok(names.iter().cloned().collect())
    }

    pub(super) fn link(&self, path: &Path) -> io::Result<PathBuf> {
        let path = plain(path);
        match self.links.get(&path) {
            Some(target) => Ok(target.clone()),
            None if self.has(&path).is_ok() => Err(io::Error::other("it is no link")),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn has(&self, path: &Path) -> io::Result<()> {
        let path = plain(path);
        let is_there = self.files.contains_key(&path)
            || self.links.contains_key(&path)
            || self.left_out.contains(&path)
            || self.folders.contains_key(&path);
        is_there.then_some(()).ok_or(io::ErrorKind::NotFound.into())
    }

    /// Where a path leads if its last part is a link.
    fn follow(&self, path: &Path) -> io::Result<PathBuf> {
        let mut path = plain(path);
        for _ in 0..MOST_LINKS {
            let Some(target) = self.links.get(&path) else {
                return Ok(path);
            };
            let folder = path.parent().unwrap_or(Path::new(""));
            path = plain(&folder.join(target));
        }
        Err(io::Error::other("too many links lead from one to the next"))
    }
}
