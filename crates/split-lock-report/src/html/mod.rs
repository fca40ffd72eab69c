//! One HTML page that carries all that was found: the finding, the figures, the numbers, how they
//! were obtained, and the data itself. It needs nothing else, now or in ten years: no network, no
//! script, no other file.

mod model;
mod origin;
mod tables;

use askama::Template;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use model::Block;
pub use model::{NamedSweep, Report, Section, Table};
pub use tables::{offsets_table, programs_table, timeouts_table};

use crate::figure::{dark_scheme_css, detection_states};
use origin::Origin;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A sweep could not be written as text.
    #[error("cannot write the data of {0} into the report: {1}")]
    Data(String, std::io::Error),
    /// The page could not be put together.
    #[error("cannot write the report: {0}")]
    Page(#[from] askama::Error),
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report<'a>,
    detection: Vec<String>,
    origins: Vec<Origin<'a>>,
    downloads: Vec<Download>,
    dark_figures: String,
}

/// A file inside the page.
struct Download {
    name: String,
    kind: &'static str,
    base64: String,
}

/// Writes the page.
///
/// # Errors
/// [`ReportError`] if a sweep cannot be written as CSV or JSON.
pub fn render(report: &Report<'_>) -> Result<String, ReportError> {
    let downloads: Result<Vec<_>, _> = report.sweeps.iter().map(downloads).collect();
    let page = Page {
        report,
        detection: detection_states(report.sweeps.iter().map(|named| named.sweep)),
        origins: Origin::of_all(&report.sweeps),
        downloads: downloads?.into_iter().flatten().collect(),
        dark_figures: dark_scheme_css(),
    };
    Ok(page.render()?)
}

fn downloads(named: &NamedSweep<'_>) -> Result<[Download; 2], ReportError> {
    let failed = |error| ReportError::Data(named.name.into(), error);
    let (mut csv, mut json) = (vec![], vec![]);
    named.sweep.write_csv(&mut csv).map_err(failed)?;
    named.sweep.write_json(&mut json).map_err(failed)?;
    let download = |extension, kind, bytes| Download {
        name: format!("{}.{extension}", named.name),
        kind,
        base64: BASE64_STANDARD.encode(bytes),
    };
    Ok([
        download("csv", "text/csv", csv),
        download("json", "application/json", json),
    ])
}

#[cfg(test)]
mod tests;
