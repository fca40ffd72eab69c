//! The numbers behind the figures.

use split_lock_repro::results::Sweep;
use split_lock_repro::summary::{self, Curve, Point, Spread};

use super::Table;
use crate::figure::{CROSSING_OFFSETS, by_offset};
use crate::number::{duration, grouped};
use crate::text::plain;

/// Turns and overshoot of every curve at every timeout.
pub fn timeouts_table(sweep: &Sweep) -> Table {
    let curves = summary::curves(sweep);
    let rows = curves
        .iter()
        .flat_map(|curve| curve.points.iter().map(move |point| row(curve, point)));
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
        rows: rows.collect(),
        text_columns: 2,
    }
}

fn row(curve: &Curve, point: &Point) -> Vec<String> {
    let Spread {
        min, median, max, ..
    } = point.turns;
    vec![
        plain(&curve.guest),
        plain(&curve.series),
        curve.vcpu.to_string(),
        duration(point.timeout_ns as f64),
        point.turns.count.to_string(),
        grouped(median),
        grouped(min),
        grouped(max),
        duration(point.overshoot_ns.median),
        duration(point.overshoot_ns.max),
    ]
}

/// Turns of programs with timers, by the timer's period.
pub fn programs_table(sweep: &Sweep) -> Table {
    let curves = summary::curves(sweep);
    let row = |curve: &Curve, point: &Point| {
        let Spread {
            min, median, max, ..
        } = point.turns;
        vec![
            plain(&curve.guest),
            plain(&curve.series),
            duration(point.timeout_ns as f64),
            point.turns.count.to_string(),
            grouped(median),
            grouped(min),
            grouped(max),
            duration(point.cpu_ns.median),
        ]
    };
    let rows = curves
        .iter()
        .flat_map(|curve| curve.points.iter().map(move |point| row(curve, point)));
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
        rows: rows.collect(),
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
                spread.count.to_string(),
                grouped(spread.median),
                grouped(spread.min),
                grouped(spread.max),
            ]
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
