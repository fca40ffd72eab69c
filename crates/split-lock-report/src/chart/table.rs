//! The table below a chart: medians at a few places, and the straight line through all of them.

use std::iter;

use unicode_width::UnicodeWidthStr;

use super::{Page, symbol};
use crate::columns::columns;
use crate::figure::{Curve, Figure};
use crate::number::si;

/// In a narrow terminal the places in the middle go first, the fit never.
pub(super) fn write(page: &mut Page, figure: &Figure) {
    page.paragraph("", figure.quantity);
    let mut places = figure.table_at.clone();
    let mut table = table(figure, &places);
    while !places.is_empty() && table.lines().any(|line| line.width() > page.width) {
        places.remove(places.len() / 2);
        table = self::table(figure, &places);
    }
    let mut lines = table.lines();
    page.line(vec![(lines.next().unwrap_or_default().into(), None)]);
    for (curve, line) in figure.curves().zip(lines) {
        let symbol = symbol(curve);
        let cells = line.strip_prefix(&symbol.0).unwrap_or(line).to_owned();
        page.line(vec![symbol, (cells, None)]);
    }
}

fn table(figure: &Figure, places: &[(f64, String)]) -> String {
    let is_fitted = figure.curves().any(|curve| curve.line.is_some());
    let fit = ["turns/s", "R²"].into_iter().filter(|_| is_fitted);
    let headings = iter::once("").chain(places.iter().map(|(_, heading)| &**heading));
    let row = |curve: &Curve| {
        let medians = places.iter().map(|(x, _)| curve.median_at(*x).map(si));
        let fit = [
            curve.line.map(|line| si(line.slope)),
            curve
                .line
                .map(|line| format!("{:.3}", (line.r_squared * 1e3).floor() / 1e3)),
        ];
        let numbers = medians.chain(fit.into_iter().filter(|_| is_fitted));
        let cells = numbers.map(|number| number.unwrap_or_else(|| "-".into()));
        iter::once(symbol(curve).0).chain(cells).collect()
    };
    columns(headings.chain(fit), figure.curves().map(row))
}
