//! Standard streams: the name `-`, and printing to a reader that may stop when it has seen enough.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use split_lock_report::text;

pub(crate) const CANNOT_WRITE: &str = "cannot write to standard output";

pub(crate) fn is_standard(path: &Path) -> bool {
    path == Path::new("-")
}

/// Whoever reads a pipe may close it early.
pub(crate) fn tolerate_closed_pipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Prints lines of text, which may hold what a user or a file has named.
pub(crate) fn print(lines: &str) -> Result<()> {
    print_plain(&text::plain_lines(lines))
}

/// A result as programs get it: indented, with a newline at its end.
pub(crate) fn json(value: &impl Serialize) -> Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Prints text that is free of foreign control characters already, such as a page in colours.
pub(crate) fn print_plain(text: &str) -> Result<()> {
    print_unless_closed(text).map(|_| ())
}

/// Prints plain text of a command that goes on; false if the reader has closed the pipe.
pub(crate) fn print_unless_closed(text: &str) -> Result<bool> {
    match write_all(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).context(CANNOT_WRITE),
    }
}

fn write_all(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
