//! The tree in which kernels are built. It stays, with its objects, so that a variant takes only what its edits touch.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::host::kernel::edit::Edited;
use crate::host::kernel::source::{BuildTools, KernelSource};
use crate::host::output;

/// A source as it was unpacked, but for files whose originals are kept beside it.
#[derive(Clone, Debug)]
pub(crate) struct SourceTree {
    folder: PathBuf,
    source: PathBuf,
}

/// Which source was unpacked, whole.
const VERSION: &str = "version";

/// The originals of edited files.
const ORIGINALS: &str = "originals";

/// The files that are not the source's, one a line.
const CREATED: &str = "created";

impl SourceTree {
    /// Of a source, as Debian has it. `folder` has nothing else.
    pub(crate) fn get(source: &KernelSource, tools: &BuildTools, folder: &Path) -> Result<Self> {
        let version = folder.join(VERSION);
        let is_whole = fs::read_to_string(&version).is_ok_and(|it| it == source.version);
        let unpacked = folder.join("source");
        if !is_whole {
            output::empty_folder(folder)?;
            fs::create_dir(&unpacked)?;
            if let Err(error) = source.unpack(tools, &unpacked) {
                // What is there of it is of no use, and takes gigabytes.
                let _ = output::empty_folder(folder);
                let what = format!(
                    "cannot unpack Linux {} into {}",
                    source.version,
                    folder.display()
                );
                return Err(error.context(what));
            }
            output::write(&version, source.version.as_bytes())?;
        }
        let mut entries = fs::read_dir(&unpacked)?;
        let only = entries
            .next()
            .with_context(|| format!("{} is empty", unpacked.display()))??;
        let tree = Self {
            folder: folder.to_owned(),
            source: only.path(),
        };
        tree.restore()?;
        Ok(tree)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.source
    }

    /// Until [`SourceTree::restore`], also if this process ends before it.
    pub(crate) fn edit(&self, edited: &Edited) -> Result<()> {
        let is_new = |path: &&String| !self.source.join(path).exists();
        let created: Vec<&str> = edited.keys().filter(is_new).map(String::as_str).collect();
        output::write(&self.folder.join(CREATED), created.join("\n").as_bytes())?;
        for (path, text) in edited {
            let here = self.source.join(path);
            if here.exists() {
                output::write(&self.originals().join(path), &fs::read(&here)?)?;
            }
            output::write(&here, text.as_bytes())?;
        }
        Ok(())
    }

    /// Makes the source what it was.
    pub(crate) fn restore(&self) -> Result<()> {
        let created = self.folder.join(CREATED);
        for path in fs::read_to_string(&created).unwrap_or_default().lines() {
            ensure!(
                !path.is_empty(),
                "{} is damaged: remove it",
                created.display()
            );
            let _ = fs::remove_file(self.source.join(path));
        }
        let originals = self.originals();
        if originals.exists() {
            copy_all(&originals, &self.source)?;
            fs::remove_dir_all(&originals)?;
        }
        let _ = fs::remove_file(created);
        Ok(())
    }

    fn originals(&self) -> PathBuf {
        self.folder.join(ORIGINALS)
    }
}

/// The times of the copies are new, so that make sees a change.
fn copy_all(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            output::write(&target, &fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_is_what_it_was_after_edits_that_nobody_took_back() {
        let folder = tempfile::tempdir().unwrap();
        let tree = SourceTree {
            folder: folder.path().to_owned(),
            source: folder.path().join("source/linux"),
        };
        let read = |path| fs::read_to_string(tree.path().join(path));
        output::write(&tree.path().join("a/b.c"), b"old").unwrap();
        let edited = [("a/b.c", "new"), ("c.c", "added")];
        let edited = edited.map(|(path, text)| (path.to_owned(), text.to_owned()));
        tree.edit(&edited.into()).unwrap();
        assert_eq!(read("a/b.c").unwrap(), "new");
        assert_eq!(read("c.c").unwrap(), "added");
        let again = tree.clone();
        again.restore().unwrap();
        again.restore().unwrap();
        assert_eq!(read("a/b.c").unwrap(), "old");
        assert!(read("c.c").is_err());
    }
}
