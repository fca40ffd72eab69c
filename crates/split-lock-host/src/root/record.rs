//! What a machine was asked for, and what was there.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};

/// By path below the root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    File(Vec<u8>),
    Link(PathBuf),
    /// Only looked into: what it holds has entries of its own.
    Folder,
    /// Only its being there was asked for.
    There,
    /// It could not be seen, and this is why.
    Refused(String),
}

impl Record {
    /// Whether something was found in it.
    pub(crate) fn is_folder(&self, path: &Path) -> bool {
        let after = (Bound::Excluded(path), Bound::Unbounded);
        let next = self.entries.range::<Path, _>(after).next();
        next.is_some_and(|(next, _)| next.starts_with(path))
    }

    /// What is known of something already is more than that it is there.
    pub(super) fn insert(&mut self, path: PathBuf, entry: Entry) {
        if entry == Entry::There {
            self.entries.entry(path).or_insert(entry);
        } else {
            self.entries.insert(path, entry);
        }
    }
}
