//! Figures, terminal charts, timelines, findings and the HTML report of split-lock measurements and
//! simulations.

#![forbid(unsafe_code)]

pub mod chart;
pub mod columns;
pub mod figure;
pub mod finding;
pub mod html;
pub mod modelled;
pub mod number;
pub mod text;
pub mod timeline;
