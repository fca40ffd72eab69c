//! The JSON form: one object with `schema`, `schema_version`, `provenance` and `samples`.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use super::{Provenance, SCHEMA, SCHEMA_VERSION, Sample, Sweep};

/// Why a file could not be read as a sweep.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadJsonError {
    /// The file could not be read at all.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Not JSON, or not an object of this shape.
    #[error("it is not a sweep in JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Another kind of file, or one of a later version.
    #[error(
        "it holds `{schema}` schema {version}; this program reads `{SCHEMA}` up to {SCHEMA_VERSION}"
    )]
    Schema {
        /// The kind that the file names.
        schema: String,
        /// The version that the file names.
        version: u32,
    },
}

#[derive(Serialize)]
struct Written<'a> {
    schema: &'static str,
    schema_version: u32,
    provenance: &'a Option<Provenance>,
    samples: &'a [Sample],
}

#[derive(Deserialize)]
struct Header {
    schema: String,
    schema_version: u32,
}

impl Sweep {
    /// Writes the sweep as one JSON object.
    ///
    /// # Errors
    /// Whatever `out` reports, such as a full disk.
    pub fn write_json(&self, mut out: impl Write) -> io::Result<()> {
        let written = Written {
            schema: SCHEMA,
            schema_version: SCHEMA_VERSION,
            provenance: &self.provenance,
            samples: &self.samples,
        };
        serde_json::to_writer_pretty(&mut out, &written)?;
        out.write_all(b"\n")
    }

    /// Reads what [`Sweep::write_json`] wrote.
    ///
    /// # Errors
    /// [`ReadJsonError`] if it is something else, or was written by a later version.
    pub fn read_json(mut input: impl Read) -> Result<Self, ReadJsonError> {
        let mut bytes = vec![];
        input.read_to_end(&mut bytes)?;
        let header: Header = serde_json::from_slice(&bytes)?;
        if header.schema != SCHEMA || header.schema_version > SCHEMA_VERSION {
            return Err(ReadJsonError::Schema {
                schema: header.schema,
                version: header.schema_version,
            });
        }
        Ok(serde_json::from_slice(&bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn comes_back_as_it_was_written() {
        let sweep = fixtures::sweep();
        let mut bytes = vec![];
        sweep.write_json(&mut bytes).unwrap();
        assert_eq!(Sweep::read_json(bytes.as_slice()).unwrap(), sweep);
    }

    #[test]
    fn another_kind_of_file_is_refused() {
        let other = br#"{"schema":"something-else","schema_version":1}"#;
        let error = Sweep::read_json(other.as_slice()).unwrap_err().to_string();
        assert!(error.contains("something-else"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Sweep::read_json(bytes.as_slice());
        }
    }
}
