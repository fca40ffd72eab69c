//! A figure as text for a terminal: braille lines with a symbol on each curve, a legend, and a
//! table of the key numbers.
//!
//! Our own, because the terminal plotting crates draw one pair of axes without units and take no
//! notice of how wide the terminal is; and the axes are those of the pictures, so that both say
//! the same.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::figure::{Curve, Figure, Mark, Panel};
use crate::text::wrap;

mod canvas;
mod table;

use canvas::Canvas;

const PLOT_ROWS: usize = 10;

/// Below this the plot would show nothing, and only legend and table are written.
const LEAST_PLOT_COLUMNS: usize = 16;

/// Symbols further apart than this leave the line between them to be seen.
const COLUMNS_BETWEEN_SYMBOLS: usize = 6;

/// Writes the figure with lines no wider than `width` columns, and escape sequences for colour
/// only if `color`.
pub fn render(figure: &Figure, width: usize, color: bool) -> String {
    let mut page = Page {
        width: width.max(1),
        color,
        lines: vec![],
    };
    page.paragraph("", &figure.title);
    for state in &figure.detection {
        page.paragraph("", state);
    }
    for panel in &figure.panels {
        page.blank();
        page.panel(figure, panel);
    }
    page.blank();
    if !figure.table_at.is_empty() {
        table::write(&mut page, figure);
        page.blank();
    }
    for note in &figure.notes {
        page.paragraph("", note);
    }
    page.text()
}

/// Some characters of one colour; `None` is the terminal's own.
type Span = (String, Option<[u8; 3]>);

struct Page {
    width: usize,
    color: bool,
    lines: Vec<Vec<Span>>,
}

impl Page {
    fn blank(&mut self) {
        self.lines.push(vec![]);
    }

    fn line(&mut self, spans: Vec<Span>) {
        self.lines.push(spans);
    }

    /// Wrapped text; the lines after the first are indented as far as `first` reaches.
    fn paragraph(&mut self, first: &str, text: &str) {
        self.marked(vec![(first.into(), None)], text);
    }

    fn marked(&mut self, first: Vec<Span>, text: &str) {
        let indent: usize = first.iter().map(|(text, _)| text.width()).sum();
        let room = self.width.saturating_sub(indent).max(1) as f64;
        let mut start = first;
        for line in wrap(text, room, |line| line.width() as f64) {
            start.push((line, None));
            self.lines.push(std::mem::take(&mut start));
            start.push((" ".repeat(indent), None));
        }
    }

    fn panel(&mut self, figure: &Figure, panel: &Panel) {
        for curve in &panel.curves {
            self.marked(vec![symbol(curve), (" ".into(), None)], &curve.legend());
        }
        if let Some(band) = &panel.band {
            self.paragraph("░ ", &band.label);
        }
        let labels = panel.y.ticks.iter().map(|tick| tick.text.width());
        let gutter = labels.max().unwrap_or(0) + 1;
        let columns = self.width.saturating_sub(gutter + 2);
        if columns < LEAST_PLOT_COLUMNS {
            return;
        }
        self.paragraph("", &panel.y.label);
        self.plot(figure, panel, gutter, columns);
        self.x_axis(figure, gutter, columns);
    }

    fn plot(&mut self, figure: &Figure, panel: &Panel, gutter: usize, columns: usize) {
        let mut canvas = Canvas::new(columns, PLOT_ROWS);
        if let Some(band) = &panel.band {
            canvas.shade(figure.x.position(band.from), figure.x.position(band.to));
        }
        for index in 0..panel.curves.len() {
            draw(&mut canvas, figure, panel, index);
        }
        let mut labels = vec![""; PLOT_ROWS];
        // From the top down, so that zero, the last, wins its row.
        for tick in panel.y.ticks.iter().rev() {
            labels[canvas.row_of(panel.y.position(tick.value))] = &tick.text;
        }
        for (label, cells) in labels.into_iter().zip(canvas.rows()) {
            let axis = if label.is_empty() { "│" } else { "┤" };
            let mut spans = vec![(format!("{label:>gutter$} {axis}"), None)];
            spans.extend(cells);
            self.line(spans);
        }
    }

    fn x_axis(&mut self, figure: &Figure, gutter: usize, columns: usize) {
        let mut axis = vec!['─'; columns];
        let mut labels = String::new();
        for tick in &figure.x.ticks {
            let column = canvas::cell(figure.x.position(tick.value), columns);
            axis[column] = '┬';
            let half = tick.text.width() / 2;
            let start = (gutter + 2 + column).saturating_sub(half);
            let free = labels.is_empty() || start > labels.width() + 1;
            if free && start + tick.text.width() <= self.width {
                let gap = start.saturating_sub(labels.width());
                labels.extend(std::iter::repeat_n(' ', gap));
                labels.push_str(&tick.text);
            }
        }
        let axis: String = axis.into_iter().collect();
        self.line(vec![(format!("{} └{axis}", " ".repeat(gutter)), None)]);
        self.line(vec![(labels, None)]);
        self.paragraph(&" ".repeat(gutter + 2), &figure.x.label);
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for spans in &self.lines {
            let mut line = String::new();
            let mut left = self.width;
            for (span, color) in spans {
                line.push_str(&self.painted(fitting(span, &mut left), *color));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn painted(&self, text: &str, color: Option<[u8; 3]>) -> String {
        match color.filter(|_| self.color && !text.is_empty()) {
            Some([red, green, blue]) => format!("\x1b[38;2;{red};{green};{blue}m{text}\x1b[39m"),
            None => text.to_owned(),
        }
    }
}

/// As much of `text` as fits, for terminals too narrow for what cannot be wrapped.
fn fitting<'a>(text: &'a str, left: &mut usize) -> &'a str {
    let mut end = 0;
    for c in text.chars() {
        let width = c.width().unwrap_or(0);
        if width > *left {
            break;
        }
        *left -= width;
        end += c.len_utf8();
    }
    &text[..end]
}

fn symbol(curve: &Curve) -> Span {
    let style = curve.style;
    (style.marker.symbol().to_string(), Some(style.color.dark()))
}

/// Draws the curve; its `index` among those of its panel sets its symbols apart from theirs, so that
/// of two that coincide both are seen.
fn draw(canvas: &mut Canvas, figure: &Figure, panel: &Panel, index: usize) {
    let curve = &panel.curves[index];
    let color = curve.style.color.dark();
    let at = |x: f64, y: f64| (figure.x.position(x), panel.y.position(y));
    let medians: Vec<_> = curve
        .marks
        .iter()
        .map(|mark| at(mark.x, mark.y.median))
        .collect();
    if curve.connected {
        for ends in medians.windows(2) {
            canvas.line(ends[0], ends[1], color);
        }
    }
    let tall = |mark: &&Mark| {
        let [low, high] = [mark.y.min, mark.y.max].map(|y| panel.y.position(y));
        high - low > 1.0 / PLOT_ROWS as f64
    };
    for mark in curve.marks.iter().filter(tall) {
        canvas.line(at(mark.x, mark.y.min), at(mark.x, mark.y.max), color);
    }
    let most = (canvas.columns() / COLUMNS_BETWEEN_SYMBOLS).max(2);
    let every = medians.len().div_ceil(most).max(1);
    let first = every * index / panel.curves.len();
    for place in medians.into_iter().skip(first).step_by(every) {
        canvas.put(place, curve.style.marker.symbol(), color);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::fixtures;

    #[test]
    fn progress_reads_well() {
        let figure = Figure::progress(&[fixtures::with_warn()]).unwrap();
        insta::assert_snapshot!(render(&figure, 80, false));
    }

    #[test]
    fn offsets_read_well() {
        let figure = Figure::offsets(&fixtures::offsets()).unwrap();
        insta::assert_snapshot!(render(&figure, 100, false));
    }

    #[test]
    fn a_bystander_reads_well() {
        let figure = Figure::bystander(&fixtures::bystander()).unwrap();
        insta::assert_snapshot!(render(&figure, 60, false));
    }

    #[test]
    fn colour_is_a_choice_and_no_guest_makes_one() {
        let mut sweep = fixtures::native();
        sweep.samples[0].guest = "\u{1b}[31mred".into();
        let figure = Figure::progress(&[sweep]).unwrap();
        assert!(!render(&figure, 80, false).contains('\u{1b}'));
        let colored = render(&figure, 80, true);
        assert!(colored.contains("\u{1b}[38;2;"));
        assert_eq!(
            colored.matches("\u{1b}[38").count(),
            colored.matches("\u{1b}[39m").count()
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for (name, figure) in fixtures::every_figure() {
            for width in 1..200 {
                for line in render(&figure, width, false).lines() {
                    assert!(line.width() <= width, "{name}, {width}: {line:?}");
                }
            }
        }
    }
}
