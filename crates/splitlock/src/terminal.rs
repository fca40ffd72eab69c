//! The terminal behind standard output: its width and colours, and what is laid out for it.

use std::io::{self, IsTerminal};

use anyhow::Result;
use split_lock_report::figure::Figure;
use split_lock_report::{chart, text};

use crate::stdout;

pub(crate) const USUAL_WIDTH: usize = 80;
const WIDEST: usize = 120;

/// Prints the figure as a chart, as wide as the terminal allows.
pub(crate) fn show(figure: &Figure) -> Result<()> {
    stdout::print_plain(&chart::render(figure, width(), has_colors()))
}

pub(crate) fn has_colors() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

pub(crate) fn width() -> usize {
    let columns = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| size.ws_col.into());
    match columns {
        0 => USUAL_WIDTH,
        columns => columns.min(WIDEST),
    }
}

/// Running text, wrapped at the terminal's width; each line of `text` is a paragraph.
pub(crate) fn paragraphs(text: &str) -> String {
    text::paragraphs(text, width())
}
