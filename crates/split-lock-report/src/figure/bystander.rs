//! What one guest's bus locks do to another that takes no part in them.

use split_lock_repro::results::{Sample, Sweep};
use split_lock_repro::summary::Spread;

use super::axis::Tick;
use super::layout::TICK;
use super::model::{Annotation, Curve, Figure, Mark, Panel};
use super::{CurveStyle, FigureError, XAxis, YAxis, caption, font};
use crate::number::{si, turns_per_s};
use crate::text::plain;

/// Between how a series was obtained and the neighbours that it had.
const BESIDE: &str = "; beside ";

/// The others are the neighbours.
const MEASURED_VCPU: u32 = 0;

/// A linear axis from zero shows a ratio up to this as heights that can be compared; beyond it
/// the lower one is lost, and the axis must be logarithmic.
const LINEAR_UP_TO: f64 = 20.0;

/// Room for the vertical axis, and for an annotation.
const MARGINS: f64 = 260.0;
const ANNOTATION: f64 = 210.0;

/// One guest and its rates under each condition.
struct Bystander<'a> {
    guest: &'a str,
    series: &'a str,
    /// By neighbour; "" for none, which comes first.
    conditions: Vec<(&'a str, Vec<f64>)>,
}

impl Figure {
    /// Turns per second of CPU time of every guest that was measured on the first vCPU, both alone
    /// and beside neighbours: a panel for each, every run as a dot, beside the median and the spread of the runs.
    ///
    /// # Errors
    /// [`FigureError::NoNeighbour`] if no guest was measured both ways.
    pub fn bystander(sweep: &Sweep) -> Result<Self, FigureError> {
        let bystanders = bystanders(&sweep.samples);
        if bystanders.is_empty() {
            return Err(FigureError::NoNeighbour);
        }
        let mut neighbours: Vec<&str> = bystanders
            .iter()
            .flat_map(|b| b.conditions.iter().map(|(neighbour, _)| *neighbour))
            .collect();
        neighbours.sort_unstable();
        neighbours.dedup();
        let counts = bystanders
            .iter()
            .flat_map(|b| b.conditions.iter().map(|(_, rates)| rates.len()));
        let reading = format!(
            "Large marks: median of {}; bars: smallest to largest; dots: single runs.",
            caption::runs(counts)
        );
        let panels = bystanders
            .iter()
            .enumerate()
            .map(|(index, bystander)| panel(index, bystander, &neighbours))
            .collect();
        let sweeps = std::slice::from_ref(sweep);
        Ok(Figure {
            title: "A bystander, alone and beside neighbours".into(),
            detection: caption::detection_states(sweeps),
            notes: caption::notes(reading, sweeps),
            x: condition_axis(&neighbours),
            table_at: (0..)
                .zip(&neighbours)
                .map(|(place, neighbour)| (f64::from(place), condition(neighbour)))
                .collect(),
            panels,
            quantity: "median turns per second of CPU time",
            width: MARGINS + room(&neighbours) * neighbours.len() as f64,
        })
    }
}

fn bystanders(samples: &[Sample]) -> Vec<Bystander<'_>> {
    let mut found: Vec<_> = samples
        .iter()
        .filter(|sample| sample.vcpu == MEASURED_VCPU)
        .map(|sample| {
            let (series, neighbour) = sample
                .series
                .split_once(BESIDE)
                .unwrap_or((&sample.series, ""));
            (sample.guest.as_str(), series, neighbour, cpu_rate(sample))
        })
        .collect();
    found.sort_by(|a, b| (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)));
    found
        .chunk_by(|a, b| (a.0, a.1) == (b.0, b.1))
        .map(|of_guest| Bystander {
            guest: of_guest[0].0,
            series: of_guest[0].1,
            conditions: of_guest
                .chunk_by(|a, b| a.2 == b.2)
                .map(|runs| (runs[0].2, runs.iter().map(|run| run.3).collect()))
                .collect(),
        })
        .filter(|b| b.conditions.len() > 1 && b.conditions[0].0.is_empty())
        .collect()
}

/// Turns per second of CPU time: what the machine's other work takes from the vCPU's thread is not
/// the neighbour's doing, and a stalled memory access is CPU time.
fn cpu_rate(sample: &Sample) -> f64 {
    sample.turns as f64 / (sample.cpu_ns.max(1) as f64 / 1e9)
}

fn panel(index: usize, bystander: &Bystander<'_>, neighbours: &[&str]) -> Panel {
    let mut marks = vec![];
    let mut runs = vec![];
    for (neighbour, rates) in &bystander.conditions {
        let place = neighbours.iter().position(|other| other == neighbour);
        let x = place.unwrap_or(0) as f64;
        marks.extend(Spread::of(rates.iter().copied()).map(|y| Mark { x, y }));
        runs.extend(jitter(x, rates));
    }
    let alone = marks.first().map_or(0.0, |mark| mark.y.median);
    let y = y_axis(bystander.guest, &marks);
    let annotations = marks.iter().map(|mark| annotation(mark, alone)).collect();
    let curve = Curve {
        name: plain(&format!("{}, {}", bystander.guest, bystander.series)),
        facts: String::new(),
        style: CurveStyle::new(index, bystander.series),
        connected: false,
        marks,
        runs,
        line: None,
    };
    Panel {
        annotations,
        ..Panel::new(y, vec![curve])
    }
}

fn y_axis(guest: &str, marks: &[Mark]) -> YAxis {
    let label = plain(&format!("{guest}: turns per second of CPU time"));
    // Zero is as visible on either axis; it is the small ones beside large ones that need help.
    let medians = || marks.iter().map(|m| m.y.median).filter(|y| *y > 0.0);
    let least = medians().fold(f64::INFINITY, f64::min);
    if medians().any(|y| y > least * LINEAR_UP_TO) {
        let spreads: Vec<Spread> = marks.iter().map(|mark| mark.y).collect();
        YAxis::log(label + " (logarithmic)", &spreads)
    } else {
        YAxis::linear(label, marks.iter().map(|mark| mark.y.max))
    }
}

fn annotation(mark: &Mark, alone: f64) -> Annotation {
    let compared = mark.x > 0.0 && alone > 0.0;
    let ratio = compared.then(|| format!("{} of alone", share(mark.y.median / alone)));
    Annotation {
        x: mark.x,
        y: mark.y.median,
        lines: std::iter::once(turns_per_s(mark.y.median))
            .chain(ratio)
            .collect(),
    }
}

/// Single runs, spread sideways just left of their median so that equal ones do not hide each
/// other. The order of the runs places them: no chance is involved.
fn jitter(x: f64, rates: &[f64]) -> Vec<(f64, f64)> {
    const PLACES: usize = 7;
    let place = |index: usize| (index * 3 % PLACES) as f64 / PLACES as f64;
    rates
        .iter()
        .enumerate()
        .map(|(index, rate)| (x - 0.16 + 0.11 * place(index), *rate))
        .collect()
}

fn share(ratio: f64) -> String {
    if ratio >= 0.1 {
        format!("{:.0} %", ratio * 100.0)
    } else {
        format!("{} %", si(ratio * 100.0))
    }
}

fn condition(neighbour: &str) -> String {
    if neighbour.is_empty() {
        "alone".into()
    } else {
        plain(&format!("beside {neighbour}"))
    }
}

/// How much width each condition needs: for the annotations, and for its own name below the axis.
fn room(neighbours: &[&str]) -> f64 {
    let names = neighbours.iter().map(|neighbour| condition(neighbour));
    names
        .map(|name| font::width(&name, TICK) + 24.0)
        .fold(ANNOTATION, f64::max)
}

fn condition_axis(neighbours: &[&str]) -> XAxis {
    XAxis {
        label: "what runs on another vCPU at the same time".into(),
        min: -0.4,
        max: neighbours.len() as f64 - 0.2,
        ticks: (0u32..)
            .zip(neighbours)
            .map(|(place, neighbour)| Tick::new(place.into(), condition(neighbour)))
            .collect(),
    }
}
