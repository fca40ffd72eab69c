//! The numbers behind the figures.

use split_lock_repro::results::Sweep;
use split_lock_repro::summary::{self, Curve, Point, Spread};

use super::Table;
use crate::figure::{CROSSING_OFFSETS, by_offset};
use crate::number::{duration, grouped};
use crate::text::plain;

/// Turns and overshoot of every curve at every timeout.
pub fn timeouts_table(sweep: &Sweep) -> Table {
    Table {
        caption: "Turns per run, and how long the runs took beyond their timeout.".into(),
        headings: &[
            "guest",
            "obtained",
            "vCPU",
            "timeout",
            "runs",
            "median turns",
            "smallest",
            "largest",
            "median overshoot",
            "largest overshoot",
        ],
        rows: rows(sweep, |curve, point| {
            let overshoot = &point.overshoot_ns;
            let mut row = named(curve);
            row.push(curve.vcpu.to_string());
            row.push(duration(point.timeout_ns as f64));
            row.extend(spread_cells(&point.turns));
            row.extend([overshoot.median, overshoot.max].map(duration));
            row
        }),
        text_columns: 2,
    }
}

/// A row for each point of each curve.
fn rows(sweep: &Sweep, row: impl Fn(&Curve, &Point) -> Vec<String>) -> Vec<Vec<String>> {
    let curves = summary::curves(sweep);
    let of_curve = |curve: &Curve| -> Vec<_> {
        let points = curve.points.iter();
        points.map(|point| row(curve, point)).collect()
    };
    curves.iter().flat_map(of_curve).collect()
}

/// What a row begins with.
fn named(curve: &Curve) -> Vec<String> {
    vec![plain(&curve.guest), plain(&curve.series)]
}

/// How many runs there were; the median of them, the smallest and the largest.
fn spread_cells(spread: &Spread) -> [String; 4] {
    [
        spread.count.to_string(),
        grouped(spread.median),
        grouped(spread.min),
        grouped(spread.max),
    ]
}

/// Turns of programs with timers, by the timer's period.
pub fn programs_table(sweep: &Sweep) -> Table {
    Table {
        caption: "Turns per run, and the CPU time that the program had.".into(),
        headings: &[
            "program",
            "obtained",
            "timer's period",
            "runs",
            "median turns",
            "smallest",
            "largest",
            "median CPU time",
        ],
        rows: rows(sweep, |curve, point| {
            let mut row = named(curve);
            row.push(duration(point.timeout_ns as f64));
            row.extend(spread_cells(&point.turns));
            row.push(duration(point.cpu_ns.median));
            row
        }),
        text_columns: 2,
    }
}

/// Turns per second at every offset of the operand.
pub fn offsets_table(sweep: &Sweep) -> Table {
    let curves = by_offset(sweep);
    let rows = curves.iter().flat_map(|curve| {
        curve.turns_per_s.iter().map(move |(offset, spread)| {
            let crosses = CROSSING_OFFSETS.contains(offset);
            vec![
                plain(&curve.guest),
                plain(&curve.series),
                if crosses { "yes" } else { "no" }.into(),
                offset.to_string(),
            ]
            .into_iter()
            .chain(spread_cells(spread))
            .collect()
        })
    });
    Table {
        caption: "Turns per second by the operand's offset in its cache line.".into(),
        headings: &[
            "guest",
            "obtained",
            "crosses the line",
            "offset (bytes)",
            "runs",
            "median turns/s",
            "smallest",
            "largest",
        ],
        rows: rows.collect(),
        text_columns: 3,
    }
}
