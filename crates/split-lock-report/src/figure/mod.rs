//! Figures of sweeps: what they show ([`Figure`]), and their pictures as SVG and PNG.
//!
//! A figure is made from sweeps in three steps, so that each can be read and tested by itself:
//! `progress`, `programs`, `offsets` and `bystander` decide what is shown, as data ([`Figure`]); `layout`
//! decides where everything goes (a `Scene`); `picture` hands the scene to a drawing backend. The
//! terminal chart starts from the same [`Figure`].
//!
//! What is no curve, such as a timeline, is placed by a module of its own and is a [`Picture`].

mod axis;
mod bystander;
mod caption;
mod font;
mod layout;
mod livelock;
mod model;
mod offsets;
mod page;
mod picture;
mod policies;
mod programs;
mod progress;
mod scene;
mod style;
mod tasks;
mod timeline;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;

pub(crate) use axis::{XAxis, YAxis};
pub(crate) use caption::{detection_states, stopped_early_line};
pub use livelock::livelock_timeline;
pub use model::Figure;
pub(crate) use model::{Curve, Mark, Panel};
pub(crate) use offsets::{CROSSING_OFFSETS, by_offset};
pub use picture::Picture;
pub(crate) use picture::dark_scheme_css;
pub use policies::policies;
pub(crate) use style::{CurveStyle, LineStyle};
pub use tasks::TaskProgress;
pub(crate) use timeline::{TimelinePanel, timeline};

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FigureError {
    /// No samples at all.
    #[error("there is nothing to draw: no samples")]
    Empty,
    /// No guest whose name carries an offset.
    #[error("there is no offset curve to draw: no guest is named like `split@57`")]
    NoOffsets,
    /// No guest that was measured both alone and beside a neighbour.
    #[error(
        "there is no comparison to draw: no guest was measured both alone and `; beside` another"
    )]
    NoNeighbour,
    /// Nothing but programs with timers can be compared with each other.
    #[error("there are no programs with timers to draw: a guest is no program, or there is none")]
    NoPrograms,
    /// A picture that nobody can hold in memory, or see.
    #[error("a picture {0} pixels wide cannot be drawn: choose a width from 200 to 4000")]
    Width(u32),
    /// The drawing library could not do it.
    #[error("cannot draw the figure: {0}")]
    Draw(String),
}
