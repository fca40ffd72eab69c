//! What a person at a terminal sees.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};
use split_lock_report::figure::Figure;
use split_lock_report::text::wrap;
use split_lock_report::{chart, text};
use unicode_width::UnicodeWidthStr;

use crate::output;
use crate::page::Page;

pub(crate) const CANNOT_WRITE: &str = "cannot write to standard output";

pub(crate) const USUAL_WIDTH: usize = 80;
const WIDEST: usize = 120;

/// Prints the figure as a chart, as wide as the terminal allows.
pub(crate) fn show(figure: &Figure) -> Result<()> {
    write(&chart::render(figure, width(), has_colors()))
}

/// Whether what is printed may be coloured.
pub(crate) fn has_colors() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// How many columns there are to fill.
pub(crate) fn width() -> usize {
    let columns = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| size.ws_col.into());
    match columns {
        0 => USUAL_WIDTH,
        columns => columns.min(WIDEST),
    }
}

/// Running text, wrapped at the terminal's width; each line of `text` is a paragraph.
pub(crate) fn paragraphs(text: &str) -> String {
    let wrapped = |line: &str| wrap(line, width() as f64, |part| part.width() as f64);
    let lines = text.lines().flat_map(wrapped);
    lines.map(|line| format!("{line}\n")).collect()
}

/// Prints lines of text, which may hold what a user or a file has named.
pub(crate) fn print(lines: &str) -> Result<()> {
    write(&text::plain_lines(lines))
}

/// Prints a page, colours and all.
pub(crate) fn print_page(page: Page) -> Result<()> {
    write(&page.into_text())
}

/// Prints text that is plain already, of a command that goes on; whether somebody still reads.
pub(crate) fn print_on(text: &str) -> Result<bool> {
    match write_all(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).context(CANNOT_WRITE),
    }
}

/// Does not mind if nobody reads on.
fn write(text: &str) -> Result<()> {
    output::tolerate_closed_pipe(write_all(text)).context(CANNOT_WRITE)
}

fn write_all(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
