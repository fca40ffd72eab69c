//! The table below a chart: medians at a few places, and the straight line through all of them.

use unicode_width::UnicodeWidthStr;

use super::{Page, symbol};
use crate::figure::{Curve, Figure};
use crate::number::si;

/// Between columns.
const GAP: usize = 2;

pub(super) fn write(page: &mut Page, figure: &Figure) {
    page.paragraph("", figure.quantity);
    let columns = fitting_columns(page.width, figure);
    let headings = columns.iter().map(|column| &*column[0]);
    let header = headings.map(str::to_owned).collect::<Vec<_>>();
    let width = |column: &Vec<String>| column.iter().map(|text| text.width()).max().unwrap_or(0);
    let widths: Vec<usize> = columns.iter().map(width).collect();
    let row = |texts: Vec<&str>| -> String {
        let cells = texts.iter().zip(&widths);
        cells
            .map(|(text, width)| format!("{}{text}", " ".repeat(GAP + width - text.width())))
            .collect()
    };
    page.line(vec![(
        format!(" {}", row(header.iter().map(String::as_str).collect())),
        None,
    )]);
    for (index, curve) in figure.curves().enumerate() {
        let texts = columns.iter().map(|column| &*column[index + 1]).collect();
        page.line(vec![symbol(curve), (row(texts), None)]);
    }
}

/// Every column with its heading first. In a narrow terminal the places in the middle go first,
/// the fit last.
fn fitting_columns(width: usize, figure: &Figure) -> Vec<Vec<String>> {
    let column = |heading: &str, cell: &dyn Fn(&Curve) -> String| {
        let cells = figure.curves().map(cell);
        std::iter::once(heading.to_owned()).chain(cells).collect()
    };
    let mut places: Vec<Vec<String>> = figure
        .table_at
        .iter()
        .map(|(x, heading)| column(heading, &|curve| curve.median_at(*x).map_or("-".into(), si)))
        .collect();
    let fitted = figure.curves().any(|curve| curve.line.is_some());
    let fit: Vec<Vec<String>> = if fitted {
        let of_line = |text: &dyn Fn(split_lock_repro::summary::Line) -> String, curve: &Curve| {
            curve.line.map_or("-".into(), text)
        };
        vec![
            column("turns/s", &|curve| of_line(&|line| si(line.slope), curve)),
            column("R²", &|curve| {
                of_line(
                    &|line| format!("{:.3}", (line.r_squared * 1e3).floor() / 1e3),
                    curve,
                )
            }),
        ]
    } else {
        vec![]
    };
    let total = |columns: &[Vec<String>]| -> usize {
        let widths = columns
            .iter()
            .map(|column| column.iter().map(|text| text.width()).max().unwrap_or(0) + GAP);
        widths.sum()
    };
    while !places.is_empty() && 1 + total(&places) + total(&fit) > width {
        places.remove(places.len() / 2);
    }
    places.into_iter().chain(fit).collect()
}
