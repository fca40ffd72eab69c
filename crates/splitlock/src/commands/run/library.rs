//! The library that programs are started with.

use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::program::Program;
use crate::error::print_note;

const NAME: &str = "libsplit_lock_preload.so";

/// Finds it: built from the sources that this program was built from, beside this program, or where an installation has
/// libraries.
pub(crate) fn find(has_notes: bool) -> Result<PathBuf> {
    let program = env::current_exe().context("cannot see where splitlock itself is")?;
    let folder = program.parent().context("splitlock itself is nowhere")?;
    let beside = folder.join(NAME);
    if let Some(checkout) = Checkout::around(folder) {
        if !beside.exists() && has_notes {
            print_note("building the library that programs are started with, once");
        }
        checkout.build()?;
    }
    let installed = folder.join("../lib/splitlock").join(NAME);
    let places = [beside, installed];
    let found = places.iter().find(|place| place.is_file());
    let found = found.with_context(|| {
        let [beside, installed] = &places;
        format!(
            "{NAME} is missing: install it as {} or as {}",
            beside.display(),
            installed.display()
        )
    })?;
    found
        .canonicalize()
        .with_context(|| format!("cannot follow {}", found.display()))
}

/// The folder of a build, in the sources.
struct Checkout<'a> {
    root: &'a Path,
    target: &'a Path,
    release: bool,
}

impl<'a> Checkout<'a> {
    fn around(folder: &'a Path) -> Option<Self> {
        let target = folder.parent()?;
        let release = match folder.file_name()?.to_str()? {
            "release" => true,
            "debug" => false,
            _ => return None,
        };
        let has_sources = |folder: &&Path| {
            folder
                .join("crates/split-lock-preload/Cargo.toml")
                .is_file()
        };
        let root = folder.ancestors().find(has_sources)?;
        Some(Self {
            root,
            target,
            release,
        })
    }

    fn build(&self) -> Result<()> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .args([
                "build",
                "--quiet",
                "--package",
                "split-lock-preload",
                "--lib",
            ])
            .arg("--target-dir")
            .arg(self.target)
            .current_dir(self.root)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if self.release {
            command.arg("--release");
        }
        let status = command
            .status()
            .context("cannot start cargo, which is to build the library")?;
        if !status.success() {
            bail!("cargo could not build the library: {status}");
        }
        Ok(())
    }
}

/// The value of LD_PRELOAD: the library comes behind what is there already, and `link` is a place for a link to it, should its
/// name have characters that separate names.
pub(crate) fn preload(library: &Path, link: &Path) -> Result<OsString> {
    let separates = |byte: &u8| matches!(byte, b' ' | b':');
    let library = if library.as_os_str().as_bytes().iter().any(separates) {
        std::os::unix::fs::symlink(library, link)
            .with_context(|| format!("cannot make a link {}", link.display()))?;
        link
    } else {
        library
    };
    let mut value = env::var_os("LD_PRELOAD").unwrap_or_default();
    if !value.is_empty() {
        value.push(":");
    }
    value.push(library);
    Ok(value)
}

/// Has the program's own loader load everything and execute nothing.
///
/// # Errors
/// If the library is not among what it has loaded.
pub(crate) fn try_loading(program: &Program, library: &Path, preload: &OsString) -> Result<()> {
    let output = Command::new(&program.loader)
        .arg("--list")
        .arg(&program.elf)
        .env("LD_PRELOAD", preload)
        .stdin(Stdio::null())
        .output()
        .with_context(|| {
            format!(
                "cannot start {}, the loader of {}",
                program.loader.display(),
                program.elf.display()
            )
        })?;
    let name = library.file_name().unwrap_or_default().as_bytes();
    let is_listed = output.stdout.split(|&byte| byte == b'\n').any(|line| {
        // As it is given, or the link to it.
        line.windows(name.len()).any(|part| part == name)
    });
    let complaints = String::from_utf8_lossy(&output.stderr);
    if output.status.success() && is_listed && !complaints.contains("cannot be preloaded") {
        return Ok(());
    }
    let complaint = complaints.lines().find(|line| !line.trim().is_empty());
    bail!(
        "{} cannot be covered: its loader {} does not load the library, which is built for glibc ({})",
        program.elf.display(),
        program.loader.display(),
        complaint.unwrap_or("it does not say why").trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_separators_is_given_by_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join(NAME);
        let value = preload(Path::new("/my code:all/library.so"), &link).unwrap();
        assert!(value.to_string_lossy().ends_with(NAME));
        assert_eq!(
            std::fs::read_link(&link).unwrap(),
            Path::new("/my code:all/library.so")
        );
        let value = preload(Path::new("/plain.so"), &link).unwrap();
        assert!(value.to_string_lossy().ends_with("/plain.so"));
    }
}
