//! Guest progress against the pending timeout.
//!
//! # Why stacked panels with linear axes
//! The question is whether progress is proportional to time, and below which timeout there is none.
//! Only a linear axis answers both at a glance: proportional growth is a straight line through the
//! origin, a threshold is where it leaves the axis, and zero has a place. On log-log axes
//! proportional growth is a straight line too, but so is every other power of time, a threshold is
//! a cliff without a foot, and zero (the livelock, the very thing to be seen) is infinitely far
//! down. Turns per millisecond would flatten proportional growth to a constant and hide how much
//! work that is. But one linear axis shows an unlocked loop and a splitting one, 400-fold slower,
//! as a line and as nothing. So curves of like size share a panel, each panel has its own linear
//! axis from zero, says by how much it is magnified against the one above, and all share the time.

use split_lock_repro::results::Sweep;
use split_lock_repro::summary::{self, Point, Trend};

use super::caption;
use super::model::{Curve, Figure, Mark, Panel};
use super::{CurveStyle, FigureError, XAxis, YAxis};
use crate::number::{si, turns_per_s};
use crate::text::plain;

/// A curve this much lower than the highest of its panel gets a panel of its own: it would use too
/// little of the height to show its shape.
const OWN_PANEL_BELOW: f64 = 1.0 / 12.0;

/// More panels would each be too low.
const MOST_PANELS: usize = 3;

impl Figure {
    /// Median turns per run against the timeout, with the spread of the runs: one line per series,
    /// guest, host and vCPU of every sweep.
    ///
    /// # Errors
    /// [`FigureError::Empty`] if there is no sample in any sweep.
    pub fn progress(sweeps: &[Sweep]) -> Result<Self, FigureError> {
        let curves: Vec<summary::Curve> = sweeps.iter().flat_map(summary::curves).collect();
        let names = names(sweeps);
        let unit = Unit::for_longest(longest_ns(&curves).ok_or(FigureError::Empty)?);
        let counts = curves.iter().flat_map(|c| &c.points).map(|p| p.turns.count);
        let mut reading = format!(
            "Marks: median of {}; bars: smallest to largest; turns: how often the guest got round \
             its loop before the timeout ended its run.",
            caption::runs(counts)
        );
        if curves.iter().any(is_independent) {
            reading += INDEPENDENT;
        }
        let drawn = curves
            .iter()
            .zip(names)
            .enumerate()
            .map(|(index, (curve, name))| drawn(index, name, curve, unit));
        let words = [
            "Guest progress against the pending timeout",
            "pending timeout",
        ];
        Ok(against_time(sweeps, words, reading, unit, drawn.collect()))
    }
}

/// A figure of curves against time; its title, and what that time is.
pub(super) fn against_time(
    sweeps: &[Sweep],
    [title, time]: [&str; 2],
    reading: String,
    unit: Unit,
    curves: Vec<Curve>,
) -> Figure {
    let panels = panels(curves);
    let times = times(&panels);
    Figure {
        title: title.into(),
        detection: caption::detection_states(sweeps),
        notes: caption::notes(reading, sweeps),
        x: XAxis::from_zero(
            format!("{time} ({})", unit.name),
            times.last().copied().unwrap_or(0.0),
        ),
        table_at: a_few(&times, unit),
        panels,
        quantity: "median turns per run",
        width: 960.0,
    }
}

/// The rule of [`summary::Curve::trend`], for whoever reads the figure.
const INDEPENDENT: &str = " Independent of the timeout: one number for all timeouts is nearer to the medians than turns in \
                           proportion to the timeout, and no slope can be told from zero (t-test, 95 %).";

fn is_independent(curve: &summary::Curve) -> bool {
    curve.trend() == Some(Trend::Independent) && !curve.points.iter().all(never_turned)
}

/// The unit of the time axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    pub(super) name: &'static str,
    pub(super) ns: f64,
}

impl Unit {
    pub(super) fn for_longest(ns: u64) -> Self {
        let (name, ns) = if ns < 1_000_000 {
            ("µs", 1e3)
        } else if ns < 20_000_000_000 {
            ("ms", 1e6)
        } else {
            ("s", 1e9)
        };
        Unit { name, ns }
    }

    pub(super) fn marks(self, points: &[Point]) -> Vec<Mark> {
        let mark = |point: &Point| Mark {
            x: point.timeout_ns as f64 / self.ns,
            y: point.turns,
        };
        points.iter().map(mark).collect()
    }
}

pub(super) fn longest_ns(curves: &[summary::Curve]) -> Option<u64> {
    let points = curves.iter().flat_map(|curve| &curve.points);
    points.map(|point| point.timeout_ns).max()
}

/// What tells each curve from every other: the vCPU only if there are several, the host only if
/// the series does not name it; and if two would otherwise be called the same, what their hosts do about split
/// locks, or if that is the same, too, the sweep.
pub(super) fn names(sweeps: &[Sweep]) -> Vec<String> {
    let named = |sweep: &Sweep| {
        let curves = summary::curves(sweep);
        let several_vcpus = curves.iter().any(|curve| curve.vcpu != curves[0].vcpu);
        curves
            .iter()
            .map(|curve| name(curve, several_vcpus))
            .collect::<Vec<_>>()
    };
    let by_sweep: Vec<Vec<String>> = sweeps.iter().map(named).collect();
    let told_apart = |index: usize, name: &String| {
        let namesakes = || {
            sweeps
                .iter()
                .zip(&by_sweep)
                .filter(|(_, all)| all.contains(name))
        };
        if namesakes().count() == 1 {
            return name.clone();
        }
        let detection = detection(&sweeps[index]);
        let is_same = |(sweep, _): &(&Sweep, _)| self::detection(sweep) == detection;
        match detection {
            Some(detection) if namesakes().filter(is_same).count() == 1 => {
                format!("{name}, {}", plain(detection))
            }
            _ => format!("{name}, sweep {}", index + 1),
        }
    };
    let names = by_sweep.iter().enumerate();
    names
        .flat_map(|(index, names)| names.iter().map(move |name| (index, name)))
        .map(|(index, name)| told_apart(index, name))
        .collect()
}

fn detection(sweep: &Sweep) -> Option<&str> {
    let provenance = sweep.provenance.as_ref()?;
    Some(&provenance.host.detection)
}

/// Names a curve: the guest, how the numbers were obtained, and which vCPU if that is a question.
pub(super) fn name(curve: &summary::Curve, several_vcpus: bool) -> String {
    let mut name = format!("{}, {}", curve.guest, curve.series);
    if !curve.series.contains(&curve.host) {
        name += &format!(", host {}", curve.host);
    }
    if several_vcpus {
        name += &format!(", vCPU {}", curve.vcpu);
    }
    plain(&name)
}

fn drawn(index: usize, name: String, curve: &summary::Curve, unit: Unit) -> Curve {
    let style = CurveStyle::new(index, &curve.series);
    Curve {
        line: curve.trend().and_then(Trend::line),
        ..Curve::connected(name, facts(curve, unit), style, unit.marks(&curve.points))
    }
}

/// The slope where there is one, and, before anything else, whether the guest ever stood still.
fn facts(curve: &summary::Curve, unit: Unit) -> String {
    let stood_still = stood_still(&curve.points, unit);
    if curve.points.iter().all(never_turned) {
        return stood_still.unwrap_or_default();
    }
    let fit = curve.trend().map(|trend| match trend {
        Trend::Line(line) => {
            let digits = if line.r_squared > 0.999 { 5 } else { 3 };
            let r_squared = floor_to(line.r_squared, digits);
            format!("{}, R² {r_squared:.digits$}", turns_per_s(line.slope))
        }
        Trend::Independent => "independent of the timeout".into(),
    });
    let both: Vec<String> = stood_still.into_iter().chain(fit).collect();
    both.join("; ")
}

/// Where no run got round its loop even once. Short of a clean threshold, only how many.
fn stood_still(points: &[Point], unit: Unit) -> Option<String> {
    let all = points.len();
    let still = points.iter().filter(|point| never_turned(point)).count();
    let first = points
        .iter()
        .take_while(|point| never_turned(point))
        .count();
    let longest = first.checked_sub(1).map(|last| points[last].timeout_ns);
    match longest {
        _ if still == 0 => None,
        _ if still == all => Some("no turn at any timeout".into()),
        Some(ns) if still == first => {
            let longest = si(ns as f64 / unit.ns);
            Some(format!("no turn at timeouts up to {longest} {}", unit.name))
        }
        _ => Some(format!("no turn at {still} of {all} timeouts")),
    }
}

fn never_turned(point: &Point) -> bool {
    point.turns.max == 0.0
}

/// Rounded down: a fit that is not perfect must not be printed as one.
fn floor_to(value: f64, digits: usize) -> f64 {
    let unit = 10f64.powi(digits as i32);
    (value * unit).floor() / unit
}

/// Curves of like size together, the largest first.
fn panels(mut curves: Vec<Curve>) -> Vec<Panel> {
    curves.sort_by(|a, b| highest(b).total_cmp(&highest(a)));
    let mut groups: Vec<Vec<Curve>> = vec![];
    for curve in curves {
        let full = groups.len() == MOST_PANELS;
        match groups.last_mut() {
            Some(group) if full || !needs_own_panel(&curve, &group[0]) => group.push(curve),
            _ => groups.push(vec![curve]),
        }
    }
    let mut above: Option<f64> = None;
    let panel = |curves: Vec<Curve>| {
        let label = |magnified| format!("turns per run{magnified}");
        let values: Vec<f64> = curves.iter().map(highest).collect();
        let mut y = YAxis::linear(label(String::new()), values);
        if let Some((above, top)) = above.zip(y.top()) {
            y.label = label(format!(" (axis magnified {} times)", si(above / top)));
        }
        above = above.or(y.top());
        Panel::new(y, curves)
    };
    groups.into_iter().map(panel).collect()
}

fn highest(curve: &Curve) -> f64 {
    curve
        .marks
        .iter()
        .map(|mark| mark.y.max)
        .fold(0.0, f64::max)
}

/// A curve that is zero throughout is as readable on any axis.
fn needs_own_panel(curve: &Curve, largest: &Curve) -> bool {
    let highest_here = highest(curve);
    highest_here > 0.0 && highest_here < highest(largest) * OWN_PANEL_BELOW
}

fn times(panels: &[Panel]) -> Vec<f64> {
    let curves = panels.iter().flat_map(|panel| &panel.curves);
    let mut times: Vec<f64> = curves.flat_map(|c| &c.marks).map(|mark| mark.x).collect();
    times.sort_by(f64::total_cmp);
    times.dedup();
    times
}

/// Up to five timeouts for the table: the first, the last, and some between.
fn a_few(times: &[f64], unit: Unit) -> Vec<(f64, String)> {
    let last = times.len().saturating_sub(1);
    let mut places: Vec<usize> = (0..5).map(|quarter| last * quarter / 4).collect();
    places.dedup();
    places
        .into_iter()
        .filter_map(|place| times.get(place))
        .map(|time| (*time, format!("{} {}", si(*time), unit.name)))
        .collect()
}
