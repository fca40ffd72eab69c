//! Files that the kernel takes settings from.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// Instead of what is there.
pub(crate) fn write(path: impl AsRef<Path>, value: &str) -> Result<()> {
    put(
        OpenOptions::new().write(true).truncate(true),
        path.as_ref(),
        value,
    )
}

/// One more line.
pub(crate) fn append(path: impl AsRef<Path>, line: &str) -> Result<()> {
    put(
        OpenOptions::new().append(true),
        path.as_ref(),
        &format!("{line}\n"),
    )
}

fn put(options: &OpenOptions, path: &Path, text: &str) -> Result<()> {
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {text:?} to {}", path.display()))
}
