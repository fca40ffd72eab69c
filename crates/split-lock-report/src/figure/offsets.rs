//! Turns per second against the operand's offset in its cache line: where the split begins.

use std::ops::RangeInclusive;

use split_lock_repro::guest::BuiltIn;
use split_lock_repro::results::{Sample, Sweep};
use split_lock_repro::summary::Spread;

use super::axis::Tick;
use super::model::{Band, Curve, Figure, Mark, Panel};
use super::{CurveStyle, FigureError, XAxis, YAxis, caption};
use crate::number::{si, turns_per_s};
use crate::text::plain;

/// Between a guest's name and the offset of its operand: `split@57`.
const OFFSET_SEPARATOR: char = '@';

const LINE_BYTES: u32 = 64;

/// Where an operand of eight bytes reaches into the next line.
pub(crate) const CROSSING_OFFSETS: RangeInclusive<u32> = LINE_BYTES - 7..=LINE_BYTES - 1;

/// One guest's rates at every offset at which it was measured.
#[derive(Debug)]
pub(crate) struct OffsetCurve {
    pub(crate) guest: String,
    pub(crate) series: String,
    pub(crate) turns_per_s: Vec<(u32, Spread)>,
}

impl Figure {
    /// Turns per second of the guests named `NAME@OFFSET`, all timeouts together.
    ///
    /// The axis is logarithmic: there are two plateaus, some hundredfold apart, and what matters is
    /// their ratio and at which byte one becomes the other.
    ///
    /// # Errors
    /// [`FigureError::NoOffsets`] if no guest has such a name.
    pub fn offsets(sweep: &Sweep) -> Result<Self, FigureError> {
        let by_offset = by_offset(sweep);
        if by_offset.is_empty() {
            return Err(FigureError::NoOffsets);
        }
        let spreads: Vec<Spread> = by_offset
            .iter()
            .flat_map(|curve| curve.turns_per_s.iter().map(|(_, spread)| *spread))
            .collect();
        let reading = format!(
            "Marks: median of {}; bars: smallest to largest.",
            caption::runs(spreads.iter().map(|spread| spread.count))
        );
        let y = YAxis::log("turns per second (logarithmic)".into(), &spreads);
        let panel = Panel {
            band: Some(crossing_band()),
            ..Panel::new(y, by_offset.iter().enumerate().map(drawn).collect())
        };
        let sweeps = std::slice::from_ref(sweep);
        Ok(Figure {
            title: "Where the split begins: progress against the operand's offset".into(),
            detection: caption::detection_states(sweeps),
            notes: caption::notes(reading, sweeps),
            x: offset_axis(),
            table_at: [0, 56, 57, 63]
                .map(|offset| (f64::from(offset), format!("byte {offset}")))
                .to_vec(),
            panels: vec![panel],
            quantity: "median turns per second",
            width: 960.0,
        })
    }
}

/// The guests of `sweep` that have an offset in their name, as curves.
pub(crate) fn by_offset(sweep: &Sweep) -> Vec<OffsetCurve> {
    let mut found: Vec<(&str, &str, u32, &Sample)> = sweep
        .samples
        .iter()
        // The others are neighbours, and a file may have any name.
        .filter(|sample| sample.vcpu == 0 && sample.guest.parse::<BuiltIn>().is_ok())
        .filter_map(|sample| {
            let (guest, offset) = sample.guest.rsplit_once(OFFSET_SEPARATOR)?;
            let offset = offset.parse().ok().filter(|offset| *offset < LINE_BYTES)?;
            Some((guest, sample.series.as_str(), offset, sample))
        })
        .collect();
    found.sort_by_key(|(guest, series, offset, _)| (*guest, *series, *offset));
    found
        .chunk_by(|a, b| (a.0, a.1) == (b.0, b.1))
        .map(|of_curve| OffsetCurve {
            guest: of_curve[0].0.into(),
            series: of_curve[0].1.into(),
            turns_per_s: of_curve
                .chunk_by(|a, b| a.2 == b.2)
                .filter_map(|at| Some((at[0].2, Spread::of(at.iter().map(|(.., s)| rate(s)))?)))
                .collect(),
        })
        .collect()
}

/// Turns per second of elapsed time.
pub(super) fn rate(sample: &Sample) -> f64 {
    sample.turns as f64 / (sample.elapsed_ns.max(1) as f64 / 1e9)
}

fn drawn((index, curve): (usize, &OffsetCurve)) -> Curve {
    let mark = |(offset, y): &(u32, Spread)| Mark {
        x: f64::from(*offset),
        y: *y,
    };
    let name = plain(&format!("{}, {}", curve.guest, curve.series));
    let style = CurveStyle::new(index, &curve.series);
    let marks = curve.turns_per_s.iter().map(mark).collect();
    Curve::connected(name, facts(curve), style, marks)
}

/// Both plateaus and their ratio.
fn facts(curve: &OffsetCurve) -> String {
    let plateau = |crossing: bool| {
        let of_offset = curve.turns_per_s.iter();
        let medians = of_offset
            .filter(|(offset, _)| CROSSING_OFFSETS.contains(offset) == crossing)
            .map(|(_, spread)| spread.median);
        Spread::of(medians).map(|spread| spread.median)
    };
    match (plateau(false), plateau(true)) {
        (Some(within), Some(across)) if across > 0.0 => format!(
            "{} within the line, {} across it, a factor of {}",
            turns_per_s(within),
            turns_per_s(across),
            si(within / across)
        ),
        (Some(within), Some(_)) => {
            format!("{} within the line, none across it", turns_per_s(within))
        }
        (Some(within), None) => format!("{} within the line", turns_per_s(within)),
        (None, Some(across)) => format!("{} across the line", turns_per_s(across)),
        (None, None) => String::new(),
    }
}

fn crossing_band() -> Band {
    let (first, last) = (*CROSSING_OFFSETS.start(), *CROSSING_OFFSETS.end());
    Band {
        from: f64::from(first) - 0.5,
        to: f64::from(last) + 0.5,
        label: format!(
            "offsets {first} to {last}: the 8-byte operand crosses the line's end at byte {LINE_BYTES}"
        ),
    }
}

fn offset_axis() -> XAxis {
    let (first, last) = (*CROSSING_OFFSETS.start(), *CROSSING_OFFSETS.end());
    let eighths = (0..first - 1).step_by(8);
    XAxis {
        label: format!("offset of the operand in its {LINE_BYTES}-byte cache line (bytes)"),
        min: -1.0,
        max: f64::from(LINE_BYTES),
        ticks: eighths
            .chain([first, last])
            .map(|offset| Tick::new(offset.into(), offset.to_string()))
            .collect(),
    }
}
