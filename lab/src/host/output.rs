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

/// The same in a folder for all of its versions, of which no other one stays once this one is there.
pub(crate) fn only_folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    folder(path, fill)?;
    let above = path
        .parent()
        .context("a version has a folder of all versions")?;
    let place = || format!("cannot remove what is old in {}", above.display());
    for entry in fs::read_dir(above).with_context(place)? {
        let other = entry.with_context(place)?.path();
        if other != path {
            fs::remove_dir_all(other).with_context(place)?;
        }
    }
    Ok(())
}

/// Makes a folder with nothing in it.
pub(crate) fn empty_folder(path: &Path) -> Result<()> {
    let place = || format!("cannot empty {}", path.display());
    if path.exists() {
        fs::remove_dir_all(path).with_context(place)?;
    }
    fs::create_dir_all(path).with_context(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_version_stays_until_the_new_one_is_there() {
        let all = tempfile::tempdir().expect("a folder");
        let version = |name: &str| all.path().join(name);
        only_folder(&version("1"), |_| Ok(())).expect("it can be made");
        only_folder(&version("2"), |_| anyhow::bail!("no space")).expect_err("it fails");
        assert!(version("1").exists() && !version("2").exists());
        only_folder(&version("2"), |_| Ok(())).expect("it can be made");
        assert!(!version("1").exists() && version("2").exists());
    }
}
