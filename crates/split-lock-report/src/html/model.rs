//! What a report consists of.

use split_lock_repro::results::Sweep;

use crate::figure::{FigureError, Picture};

/// Everything on the page.
#[derive(Debug)]
pub struct Report<'a> {
    /// What the page is called.
    pub title: String,
    /// A sentence each, for whoever reads no further.
    pub findings: Vec<String>,
    /// What was found, in the order in which it should be read.
    pub sections: Vec<Section>,
    /// Where it comes from: each is described, and carried along as CSV and JSON.
    pub sweeps: Vec<NamedSweep<'a>>,
}

/// A sweep and the name of its files, without their extension.
#[derive(Debug, Clone, Copy)]
pub struct NamedSweep<'a> {
    /// Such as `progress`.
    pub name: &'a str,
    /// The data.
    pub sweep: &'a Sweep,
}

/// A heading and what stands below it.
#[derive(Debug)]
pub struct Section {
    pub(super) title: String,
    pub(super) blocks: Vec<Block>,
}

/// One thing in a section.
#[derive(Debug)]
pub(super) enum Block {
    /// Running text.
    Paragraph(String),
    /// A picture, as SVG that is already safe, with a caption.
    Picture {
        svg: String,
        /// What the picture shows and how its numbers were obtained.
        caption: String,
    },
    /// Numbers.
    Table(Table),
}

/// A table; long ones are folded.
#[derive(Debug)]
pub struct Table {
    /// What it holds and how the numbers were obtained.
    pub caption: String,
    /// One for each column.
    pub headings: &'static [&'static str],
    /// As many cells each as there are headings.
    pub rows: Vec<Vec<String>>,
    /// How many columns, from the left, hold words; the others hold numbers.
    pub text_columns: usize,
}

/// A longer table is folded.
const FOLDED_ABOVE_ROWS: usize = 12;

impl Table {
    pub(super) fn folded(&self) -> bool {
        self.rows.len() > FOLDED_ABOVE_ROWS
    }
}

impl Section {
    /// An empty section.
    pub fn new(title: impl Into<String>) -> Self {
        Section {
            title: title.into(),
            blocks: vec![],
        }
    }

    /// Adds running text.
    #[must_use]
    pub fn paragraph(self, text: impl Into<String>) -> Self {
        self.block(Block::Paragraph(text.into()))
    }

    /// Adds a picture; its caption says how the numbers were obtained.
    ///
    /// # Errors
    /// [`FigureError::Draw`] if it cannot be drawn.
    pub fn picture(
        self,
        picture: &Picture,
        caption: impl Into<String>,
    ) -> Result<Self, FigureError> {
        let (svg, caption) = (picture.svg()?, caption.into());
        Ok(self.block(Block::Picture { svg, caption }))
    }

    /// Adds a table.
    #[must_use]
    pub fn table(self, table: Table) -> Self {
        self.block(Block::Table(table))
    }

    fn block(mut self, block: Block) -> Self {
        self.blocks.push(block);
        self
    }
}
