//! A grid of terminal cells, each of two by four braille dots.

use super::Span;

/// The dots of a cell: bits by column, from the top row down.
const DOTS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

const NO_DOTS: u32 = 0x2800;

/// A position on the canvas: shares of its width from the left, and of its height from the bottom.
type Position = (f64, f64);

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    dots: u8,
    symbol: Option<char>,
    shaded: bool,
    color: Option<[u8; 3]>,
}

pub(super) struct Canvas {
    columns: usize,
    cells: Vec<Cell>,
}

/// The cell or dot out of `count` in which a share of the whole lies.
pub(super) fn cell(share: f64, count: usize) -> usize {
    ((share * count as f64) as usize).min(count - 1)
}

impl Canvas {
    pub(super) fn new(columns: usize, rows: usize) -> Self {
        Canvas {
            columns,
            cells: vec![Cell::default(); columns * rows],
        }
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    fn row_count(&self) -> usize {
        self.cells.len() / self.columns
    }

    pub(super) fn row_of(&self, height: f64) -> usize {
        self.row_count() - 1 - cell(height, self.row_count())
    }

    pub(super) fn shade(&mut self, from: f64, to: f64) {
        let (from, to) = (cell(from, self.columns), cell(to, self.columns));
        for row in self.cells.chunks_mut(self.columns) {
            for cell in &mut row[from..=to] {
                cell.shaded = true;
            }
        }
    }

    pub(super) fn put(&mut self, (x, y): Position, symbol: char, color: [u8; 3]) {
        let index = self.row_of(y) * self.columns + cell(x, self.columns);
        self.cells[index].symbol = Some(symbol);
        self.cells[index].color = Some(color);
    }

    pub(super) fn line(&mut self, from: Position, to: Position, color: [u8; 3]) {
        let (wide, high) = (self.columns * 2, self.row_count() * 4);
        let dot = |(x, y): Position| (cell(x, wide) as f64, cell(y, high) as f64);
        let ((x0, y0), (x1, y1)) = (dot(from), dot(to));
        let steps = (x1 - x0).abs().max((y1 - y0).abs()).max(1.0) as usize;
        for step in 0..=steps {
            let share = step as f64 / steps as f64;
            let x = (x0 + (x1 - x0) * share).round() as usize;
            let y = high - 1 - (y0 + (y1 - y0) * share).round() as usize;
            let cell = &mut self.cells[y / 4 * self.columns + x / 2];
            cell.dots |= DOTS[x % 2][y % 4];
            cell.color.get_or_insert(color);
        }
    }

    /// The rows from the top, each in spans of one colour.
    pub(super) fn rows(&self) -> impl Iterator<Item = Vec<Span>> {
        self.cells.chunks(self.columns).map(|row| {
            row.chunk_by(|a, b| a.color == b.color)
                .map(|cells| (cells.iter().map(character).collect(), cells[0].color))
                .collect()
        })
    }
}

fn character(cell: &Cell) -> char {
    match (cell.symbol, cell.dots, cell.shaded) {
        (Some(symbol), ..) => symbol,
        (None, 0, true) => '░',
        (None, 0, false) => ' ',
        (None, dots, _) => char::from_u32(NO_DOTS + u32::from(dots)).unwrap_or(' '),
    }
}
