//! Parts of what a machine boots into.

use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::host::cache::Cache;
use crate::host::programs;

/// The machine's CPU as Rust calls it. A target that is named keeps build scripts out of what
/// RUSTFLAGS does to programs.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds programs, by package and name, that need no library. The answer is the folder in which they are.
pub(crate) fn build_static(cache: &Cache, binaries: &[(&str, &str)]) -> Result<PathBuf> {
    let selected = binaries
        .iter()
        .flat_map(|(package, name)| ["--package", package, "--bin", name]);
    build_static_selected(cache, selected)
}

/// Builds an example of a package in the same way. The answer is the program.
pub(crate) fn build_static_example(cache: &Cache, package: &str, name: &str) -> Result<PathBuf> {
    let selected = ["--package", package, "--example", name];
    // As VMMs are built, because it is measured.
    let profile = [
        "--config",
        "profile.release.lto=true",
        "--config",
        "profile.release.codegen-units=1",
    ];
    let built = build_static_selected(cache, selected.into_iter().chain(profile))?;
    Ok(built.join("examples").join(name))
}

fn build_static_selected<'a>(
    cache: &Cache,
    selected: impl IntoIterator<Item = &'a str>,
) -> Result<PathBuf> {
    let folder = cache.folder("build/programs");
    let mut command = programs::cargo();
    command
        .args(["build", "--locked", "--release", "--target", TARGET])
        .args(selected)
        .args(["--config", "profile.release.strip=true"])
        .args(["--config", "profile.release.debug=false"])
        // For those who change them and look at once.
        .args(["--config", "profile.release.incremental=true"])
        .arg("--target-dir")
        .arg(&folder)
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    programs::run(&mut command).context("cannot build the programs for the machine")?;
    Ok(folder.join(TARGET).join("release"))
}

/// Of an archive. Folders have to come before what is in them.
type Entry = (cpio::NewcBuilder, Cursor<Vec<u8>>);

pub(crate) fn folder(path: &str) -> Entry {
    entry(path, 0o040_755, Vec::new())
}

/// A file that everybody may read and run.
pub(crate) fn file(path: &str, contents: Vec<u8>) -> Entry {
    entry(path, 0o100_755, contents)
}

fn entry(path: &str, mode: u32, contents: Vec<u8>) -> Entry {
    let header = cpio::NewcBuilder::new(path.trim_start_matches('/')).mode(mode);
    (header, Cursor::new(contents))
}

pub(crate) fn archive(entries: Vec<Entry>) -> Result<Vec<u8>> {
    Ok(cpio::write_cpio(entries.into_iter(), Vec::new())?)
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// One of the kernel's own, uncompressed.
pub(crate) fn kernel_module(modules: &Path, name: &str) -> Result<Vec<u8>> {
    let names = [format!("{name}.ko"), format!("{name}.ko.xz")];
    let path = find(modules, &names)?
        .with_context(|| format!("no {} below {}", names.join(" or "), modules.display()))?;
    let bytes = read(&path)?;
    if path.extension().is_some_and(|ending| ending == "ko") {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    lzma_rust2::XzReader::new(&bytes[..], true)
        .read_to_end(&mut plain)
        .with_context(|| format!("cannot uncompress {}", path.display()))?;
    Ok(plain)
}

fn find(folder: &Path, names: &[String]) -> Result<Option<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let is_wanted = names.iter().any(|name| entry.file_name() == name.as_str());
        if is_wanted {
            return Ok(Some(entry.path()));
        }
        if entry.file_type()?.is_dir()
            && let Some(found) = find(&entry.path(), names)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
