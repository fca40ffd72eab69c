//! Writes the CSV form: comment lines (`# key: JSON`) with the origin, then a header, then one row a
//! sample.

use std::io::{self, Write};

use super::{Provenance, SCHEMA, SCHEMA_VERSION, Sweep};

/// The columns, in their order. Scripts rely on them.
pub const CSV_COLUMNS: [&str; 11] = [
    "series",
    "guest",
    "host",
    "vcpu",
    "timeout_ns",
    "run",
    "turns",
    "elapsed_ns",
    "cpu_ns",
    "exits",
    "outcome",
];

impl Sweep {
    /// Writes the table.
    ///
    /// ```
    /// use split_lock_repro::results::Sweep;
    ///
    /// let empty = Sweep { provenance: None, samples: vec![] };
    /// let mut out = vec![];
    /// empty.write_csv(&mut out).unwrap();
    /// assert!(out.starts_with(b"series,guest,host,vcpu,timeout_ns,run,turns,"));
    /// ```
    ///
    /// # Errors
    /// Whatever `out` reports, such as a full disk.
    pub fn write_csv(&self, mut out: impl Write) -> io::Result<()> {
        if let Some(provenance) = &self.provenance {
            write_comments(&mut out, provenance, self.samples.len())?;
        }
        let mut writer = csv::WriterBuilder::new()
            .has_headers(false)
            .comment(Some(b'#'))
            .from_writer(out);
        writer.write_record(CSV_COLUMNS).map_err(io_error)?;
        for sample in &self.samples {
            writer.serialize(sample).map_err(io_error)?;
        }
        writer.flush()
    }
}

/// As the writer below reported it: whoever calls may want to know that a pipe was closed.
fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        kind => io::Error::other(format!("{kind:?}")),
    }
}

fn write_comments(out: &mut impl Write, from: &Provenance, samples: usize) -> io::Result<()> {
    writeln!(out, "# {SCHEMA}: {SCHEMA_VERSION}")?;
    let json = serde_json::to_value(from)?;
    for (key, value) in json.as_object().into_iter().flatten() {
        writeln!(out, "# {key}: {value}")?;
    }
    writeln!(out, "# samples: {samples}")
}
