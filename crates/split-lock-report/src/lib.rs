//! Turns measurements and simulations of split locks into figures, charts, sentences and one page.
//!
//! A [`figure::Figure`] shows sweeps: progress against the pending timeout, rates by the operand's
//! offset in its cache line, or a bystander alone and beside neighbours. It becomes an SVG or PNG
//! ([`figure::Picture`]) or a chart for a terminal ([`chart`]), and simulations become pictures and
//! text in the same way ([`timeline`], [`policies`]). What a sweep shows is said in sentences by
//! [`finding`], and a sweep that no guest has to run for is made by [`modelled`]. All of it goes into
//! one HTML page that needs no other file ([`html`]); nothing here does I/O, so the caller writes the
//! strings and bytes.
//!
//! ```
//! use std::time::Duration;
//!
//! use split_lock_report::modelled::{self, HardwareCosts};
//! use split_lock_report::{chart, figure::Figure};
//! use split_lock_repro::results::Sweep;
//!
//! let kernel = "6.12,hz=250".parse()?;
//! let timeouts = [5, 10, 15, 20].map(Duration::from_millis);
//! let samples = modelled::sweep(&kernel, &timeouts, 3, 1, HardwareCosts::default())?;
//! let sweep = Sweep { provenance: None, samples };
//!
//! let figure = Figure::for_sweeps(&[sweep])?;
//! assert!(figure.picture().svg()?.starts_with("<svg"));
//! let chart = chart::render(&figure, 100, false);
//! assert!(chart.contains("split, modelled (6.12,hz=250): no turn at timeouts up to 10 ms"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod chart;
pub mod columns;
pub mod figure;
pub mod finding;
pub mod html;
pub mod modelled;
pub mod number;
pub mod policies;
pub mod text;
pub mod timeline;
