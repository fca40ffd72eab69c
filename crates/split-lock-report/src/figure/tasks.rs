//! Two tasks of one guest, as time goes by.

use split_lock_repro::summary::Spread;

use super::model::{Curve, Figure, Mark, Panel};
use super::{CurveStyle, XAxis, YAxis};
use crate::number::si;

/// More marks than this run into each other.
const MOST_MARKS: usize = 50;

/// How far the tasks came in one run.
#[derive(Debug)]
pub struct TaskProgress {
    /// Under what condition.
    pub name: String,
    /// How the numbers were obtained.
    pub series: String,
    /// Milliseconds since the beginning, and the progress of the task that splits locks and of the
    /// one that counts.
    pub points: Vec<(f64, [u64; 2])>,
}

impl Figure {
    /// The progress of each task, in a panel of its own.
    pub fn tasks(runs: &[TaskProgress], detection: String, notes: Vec<String>) -> Self {
        let last = runs.iter().filter_map(|run| run.points.last());
        let end = last.map(|(at, _)| *at).fold(0.0, f64::max);
        let panel = |task: usize, label: &str| {
            let curves: Vec<Curve> = runs
                .iter()
                .enumerate()
                .map(|(index, run)| drawn(index, run, task))
                .collect();
            let values = curves.iter().flat_map(|c| &c.marks).map(|mark| mark.y.max);
            Panel::new(YAxis::linear(label.into(), values), curves)
        };
        Figure {
            title: "One guest, two tasks: how far each of them comes".into(),
            detection: vec![detection],
            notes,
            x: XAxis::from_zero("time (ms)".into(), end),
            panels: vec![
                panel(0, "the task that splits locks: split locks done"),
                panel(1, "the task that counts: counted to"),
            ],
            table_at: vec![],
            quantity: "progress",
            width: 960.0,
        }
    }
}

fn drawn(index: usize, run: &TaskProgress, task: usize) -> Curve {
    let every = run.points.len().div_ceil(MOST_MARKS).max(1);
    let last = run.points.len().saturating_sub(1);
    let shown = run.points.iter().enumerate();
    let shown = shown.filter(|(n, _)| n % every == 0 || *n == last);
    let mark = |(_, (at, progress)): (usize, &(f64, [u64; 2]))| {
        let y = Spread::of([progress[task] as f64])?;
        Some(Mark { x: *at, y })
    };
    let end = run.points.last().map_or(0, |(_, progress)| progress[task]);
    let facts = format!("{} in the end", si(end as f64));
    let style = CurveStyle::new(index, &run.series);
    let marks = shown.filter_map(mark).collect();
    Curve::connected(run.name.clone(), facts, style, marks)
}
