//! Text with headings and lists, for a person at a terminal.

use anyhow::Result;
use split_lock_report::text::{plain, wrap};
use unicode_width::UnicodeWidthStr;

use crate::stdout;
use crate::terminal::{self, USUAL_WIDTH};

const INDENT: usize = 4;

/// What the colour of a title tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    Good,
    Bad,
    Unsure,
}

/// A text, of a width, with colours or without.
#[derive(Debug)]
pub(crate) struct Page {
    text: String,
    width: usize,
    has_colors: bool,
}

impl Page {
    /// For standard output, whatever that is.
    pub(crate) fn for_terminal() -> Self {
        Self::new(terminal::width(), terminal::has_colors())
    }

    pub(crate) fn for_file() -> Self {
        Self::new(USUAL_WIDTH, false)
    }

    fn new(width: usize, has_colors: bool) -> Self {
        let text = String::new();
        Page {
            text,
            width,
            has_colors,
        }
    }

    pub(crate) fn title(&mut self, title: &str, severity: Severity) {
        let color = match severity {
            Severity::Good => "1;32",
            Severity::Bad => "1;31",
            Severity::Unsure => "1;33",
        };
        self.styled(color, title);
        self.text.push('\n');
    }

    pub(crate) fn heading(&mut self, heading: &str) {
        self.text.push('\n');
        self.styled("1", heading);
    }

    fn styled(&mut self, style: &str, line: &str) {
        let line = plain(line);
        self.text += &match self.has_colors {
            true => format!("\x1b[{style}m{line}\x1b[0m\n"),
            false => format!("{line}\n"),
        };
    }

    pub(crate) fn paragraph(&mut self, text: &str) {
        self.item("", text);
    }

    /// An entry of a list: a mark, and text beside it.
    pub(crate) fn item(&mut self, mark: &str, text: &str) {
        let room = self.width.saturating_sub(INDENT).max(20);
        let lines = wrap(&plain(text), room as f64, |part| part.width() as f64);
        for (n, line) in lines.iter().enumerate() {
            let mark = if n == 0 { mark } else { "" };
            self.text += format!("{mark:>0$}  {line}", INDENT - 2).trim_end();
            self.text.push('\n');
        }
    }

    /// What can be copied: in one line, however long that is.
    pub(crate) fn verbatim(&mut self, line: &str) {
        self.text += &format!("{:1$}{2}\n", "", INDENT + 2, plain(line));
    }

    pub(crate) fn print(self) -> Result<()> {
        stdout::print_plain(&self.text)
    }

    /// The whole, in which all that came from elsewhere is plain.
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}
