//! What is to become a result, under a hidden name beside its place, and how all of it goes away
//! again if the program has to end at once.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;

pub(super) const PREFIX: &str = ".splitlock-";

/// Every draft that there is. Whoever makes, places or discards one holds the lock, so that the
/// program does not end in the middle of it.
static DRAFTS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

type Drafts = MutexGuard<'static, BTreeSet<PathBuf>>;

fn drafts() -> Drafts {
    DRAFTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes every draft. Until what is returned is dropped there will be no new one.
pub(crate) fn discard_all() -> impl Sized {
    let mut all = drafts();
    for path in std::mem::take(&mut *all) {
        remove(&path);
    }
    all
}

fn remove(path: &Path) {
    // Nothing better can be done about a draft that stays.
    let _ = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
}

/// A file or folder that goes away again unless it is placed.
#[derive(Debug)]
pub(crate) struct Draft(PathBuf);

impl Draft {
    pub(super) fn file_in(folder: &Path) -> io::Result<(Self, File)> {
        Self::make(folder, |path| File::create_new(path))
    }

    pub(super) fn folder_in(folder: &Path) -> io::Result<Self> {
        Self::make(folder, |path| fs::create_dir(path)).map(|(draft, ())| draft)
    }

    fn make<T>(folder: &Path, make: impl Fn(&Path) -> io::Result<T>) -> io::Result<(Self, T)> {
        let mut drafts = drafts();
        let mut number = drafts.len();
        loop {
            let path = folder.join(format!("{PREFIX}{}-{number}", process::id()));
            match make(&path) {
                // Somebody else's, such as one that a process of the same number left behind.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
                Ok(made) => {
                    drafts.insert(path.clone());
                    return Ok((Draft(path), made));
                }
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn file(&self, name: &str) -> io::Result<File> {
        let _no_discarding_meanwhile = drafts();
        File::create_new(self.0.join(name))
    }

    /// A draft that is a file becomes `path`.
    pub(super) fn place_file(self, path: &Path) -> io::Result<()> {
        let mut drafts = drafts();
        fs::rename(&self.0, path)?;
        drafts.remove(&self.0);
        Ok(())
    }

    /// Lets `place` move what a folder holds, or the folder itself. If that fails, what is left of
    /// it stays where it is.
    pub(super) fn place_folder(self, place: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let mut drafts = drafts();
        drafts.remove(&self.0);
        place(&self.0)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let mut drafts = drafts();
        if drafts.remove(&self.0) {
            remove(&self.0);
        }
    }
}
