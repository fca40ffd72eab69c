//! Files appear whole or not at all.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// Writes a file, and the folders above it.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let place = || format!("cannot write {}", path.display());
    let folder = path.parent().with_context(place)?;
    fs::create_dir_all(folder).with_context(place)?;
    let mut draft = tempfile::NamedTempFile::new_in(folder).with_context(place)?;
    draft.write_all(bytes).with_context(place)?;
    draft.persist(path).with_context(place)?;
    Ok(())
}

/// Makes a folder by `fill`ing another one that then takes its name. If it is there, it stays.
pub(crate) fn folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let place = || format!("cannot make {}", path.display());
    let above = path.parent().with_context(place)?;
    fs::create_dir_all(above).with_context(place)?;
    let draft = tempfile::tempdir_in(above).with_context(place)?;
    fill(draft.path())?;
    fs::rename(draft.keep(), path).with_context(place)
}

/// The same in a folder for all of its versions, of which no other one stays.
pub(crate) fn only_folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let above = path
        .parent()
        .context("a version has a folder of all versions")?;
    empty_folder(above)?;
    folder(path, fill)
}

/// Makes a folder with nothing in it.
pub(crate) fn empty_folder(path: &Path) -> Result<()> {
    let place = || format!("cannot empty {}", path.display());
    if path.exists() {
        fs::remove_dir_all(path).with_context(place)?;
    }
    fs::create_dir_all(path).with_context(place)
}
