//! The guest's console, as it is shown and kept.

use anyhow::Result;
use split_lock_repro::linux::PlainText;

use crate::stdout;

const MARK: &str = "| ";

/// A guest could go on for ever.
const MOST_KEPT: usize = 16 << 20;

#[derive(Debug)]
pub(super) struct Console {
    plain: PlainText,
    is_shown: bool,
    is_in_line: bool,
    kept: String,
}

impl Console {
    /// Nothing is kept from a guest; it is shown if somebody is to see it.
    pub(super) fn new(is_shown: bool) -> Self {
        Self {
            plain: PlainText::default(),
            is_shown,
            is_in_line: false,
            kept: String::new(),
        }
    }

    pub(super) fn say(&mut self, line: &str) -> Result<()> {
        self.end_line()?;
        self.show(line)
    }

    /// What the guest has written, made plain.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<String> {
        let text = self.plain.add(bytes);
        if text.is_empty() {
            return Ok(text);
        }
        if self.kept.len() < MOST_KEPT {
            self.kept += &text;
        }
        let mut marked = String::new();
        for piece in text.split_inclusive('\n') {
            if !self.is_in_line {
                marked += MARK;
            }
            marked += piece;
            self.is_in_line = !piece.ends_with('\n');
        }
        self.show(&marked)?;
        Ok(text)
    }

    /// So that what follows begins a line.
    pub(super) fn end_line(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_in_line) {
            self.show("\n")?;
        }
        Ok(())
    }

    /// All of it, or the first of very much.
    pub(super) fn all(&self) -> &str {
        &self.kept
    }

    pub(super) fn last_line(&self) -> String {
        let mut lines = self.kept.lines().rev().map(str::trim);
        short(lines.find(|line| !line.is_empty()).unwrap_or_default())
    }

    fn show(&mut self, text: &str) -> Result<()> {
        if self.is_shown {
            self.is_shown = stdout::print_unless_closed(text)?;
        }
        Ok(())
    }
}

/// As much of a guest's line as belongs into a sentence.
pub(super) fn short(line: &str) -> String {
    const MOST: usize = 200;
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_is_kept_without_what_acts_on_a_terminal() {
        let mut console = Console::new(false);
        assert_eq!(console.add(b"one\r\n\x1b[31mtw").unwrap(), "one\ntw");
        console.add(b"o\r\n\r\n").unwrap();
        assert_eq!(console.all(), "one\ntwo\n\n");
        assert_eq!(console.last_line(), "two");
    }

    #[test]
    fn a_guest_that_never_stops_does_not_fill_the_memory() {
        let mut console = Console::new(false);
        let much = vec![b'x'; 1 << 20];
        for _ in 0..20 {
            console.add(&much).unwrap();
        }
        assert!(console.all().len() <= MOST_KEPT + much.len());
        assert!(console.last_line().len() < 300);
    }
}
