//! How the library gets into a program.

use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::program::Program;
use crate::child::Library;

pub(super) const LIBRARY: Library = Library {
    package: "split-lock-preload",
    file: "libsplit_lock_preload.so",
};

/// The value of LD_PRELOAD: the library comes behind what is there already, and `link` is a place for a link to it, should its
/// name have characters that separate names.
pub(crate) fn preload(library: &Path, link: &Path) -> Result<OsString> {
    let separates = |byte: &u8| matches!(byte, b' ' | b':');
    let mut library = library;
    if library.as_os_str().as_bytes().iter().any(separates) {
        std::os::unix::fs::symlink(library, link)
            .with_context(|| format!("cannot make a link {}", link.display()))?;
        library = link;
    }
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
        let link = folder.path().join(LIBRARY.file);
        let value = preload(Path::new("/my code:all/library.so"), &link).unwrap();
        assert!(value.to_string_lossy().ends_with(LIBRARY.file));
        assert_eq!(
            std::fs::read_link(&link).unwrap(),
            Path::new("/my code:all/library.so")
        );
        let value = preload(Path::new("/plain.so"), &link).unwrap();
        assert!(value.to_string_lossy().ends_with("/plain.so"));
    }
}
