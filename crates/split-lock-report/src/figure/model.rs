//! What a figure shows, before anything is placed.

use split_lock_repro::results::Sweep;
use split_lock_repro::summary::{Line, Spread};

use super::{CurveStyle, FigureError, XAxis, YAxis};

/// A figure: one or more panels above each other that share their horizontal axis, with the words
/// that belong to them.
#[derive(Debug, Clone)]
pub struct Figure {
    pub(crate) title: String,
    /// The hosts' detection states: no number here means anything without them.
    pub(crate) detection: Vec<String>,
    /// How to read the marks, which host, whether the sweep was stopped.
    pub(crate) notes: Vec<String>,
    pub(crate) x: XAxis,
    pub(crate) panels: Vec<Panel>,
    /// Where the terminal's table of numbers looks at the curves: place and heading.
    pub(crate) table_at: Vec<(f64, String)>,
    /// What the numbers of that table are.
    pub(crate) quantity: &'static str,
    pub(crate) width: f64,
}

/// One vertical axis and the curves drawn against it.
#[derive(Debug, Clone)]
pub(crate) struct Panel {
    pub(crate) y: YAxis,
    pub(crate) curves: Vec<Curve>,
    pub(crate) band: Option<Band>,
    pub(crate) annotations: Vec<Annotation>,
}

/// One curve, with all that its line in the legend says.
#[derive(Debug, Clone)]
pub(crate) struct Curve {
    /// Guest, origin, and whatever else tells it from the others.
    pub(crate) name: String,
    /// Key numbers.
    pub(crate) facts: String,
    pub(crate) style: CurveStyle,
    /// Whether a line through the marks means anything.
    pub(crate) connected: bool,
    pub(crate) marks: Vec<Mark>,
    /// Single values, where they are shown beside the marks.
    pub(crate) runs: Vec<(f64, f64)>,
    /// Progress against time, where it was fitted.
    pub(crate) line: Option<Line>,
}

/// One value with its spread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) x: f64,
    pub(crate) y: Spread,
}

/// A stretch of the horizontal axis that means something.
#[derive(Debug, Clone)]
pub(crate) struct Band {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) label: String,
}

/// A few words beside a mark.
#[derive(Debug, Clone)]
pub(crate) struct Annotation {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) lines: Vec<String>,
}

impl Figure {
    /// The figure that tables seem to have been measured for: programs with timers if they have nothing else, offsets or
    /// bystanders if the only sweep has any, else progress against the timeout, which several sweeps can share.
    ///
    /// # Errors
    /// [`FigureError::Empty`] if there is no sample in any sweep.
    pub fn for_sweeps(sweeps: &[Sweep]) -> Result<Self, FigureError> {
        let special = match sweeps {
            [only] => Figure::offsets(only)
                .or_else(|_| Figure::bystander(only))
                .ok(),
            _ => None,
        };
        let special = special.or_else(|| Figure::programs(sweeps).ok());
        special.map_or_else(|| Figure::progress(sweeps), Ok)
    }

    /// What the figure is called.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    pub(crate) fn curves(&self) -> impl Iterator<Item = &Curve> {
        self.panels.iter().flat_map(|panel| &panel.curves)
    }
}

impl Panel {
    pub(crate) fn new(y: YAxis, curves: Vec<Curve>) -> Self {
        Panel {
            y,
            curves,
            band: None,
            annotations: vec![],
        }
    }
}

impl Curve {
    /// Marks with a line through them.
    pub(crate) fn connected(
        name: String,
        facts: String,
        style: CurveStyle,
        marks: Vec<Mark>,
    ) -> Self {
        Curve {
            name,
            facts,
            style,
            connected: true,
            marks,
            runs: vec![],
            line: None,
        }
    }

    /// Its line in the legend.
    pub(crate) fn legend(&self) -> String {
        match &*self.facts {
            "" => self.name.clone(),
            facts => format!("{}: {facts}", self.name),
        }
    }

    /// The median at `x`, if there is a mark.
    pub(crate) fn median_at(&self, x: f64) -> Option<f64> {
        let mark = self.marks.iter().find(|mark| mark.x == x)?;
        Some(mark.y.median)
    }
}
