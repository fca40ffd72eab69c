//! What a person at a terminal sees.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;

use crate::chart;
use crate::figure::Figure;

const USUAL_WIDTH: usize = 80;
const WIDEST: usize = 120;

/// Prints the figure as a chart, as wide as the terminal allows.
pub(crate) fn show(figure: &Figure) -> Result<()> {
    let out = io::stdout();
    let is_terminal = out.is_terminal();
    let width = rustix::termios::tcgetwinsize(&out).map_or(USUAL_WIDTH, |size| size.ws_col.into());
    let width = if width == 0 {
        USUAL_WIDTH
    } else {
        width.min(WIDEST)
    };
    let color = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    print(&chart::render(figure, width, color))
}

/// Prints, and does not mind if nobody reads on.
pub(crate) fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
