//! Reads the CSV form, whoever wrote it: within bounds, and with the line in every error.

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use serde::de::DeserializeOwned;

use super::bounded_lines::BoundedLines;
use super::{CSV_COLUMNS, HostFacts, Provenance, SCHEMA, SCHEMA_VERSION, Sample, Sweep};

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Why a table could not be read as a sweep.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadCsvError {
    /// The file could not be read at all.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The first line that is not a comment is no header of ours.
    #[error("line {line} should be the header `{expected}`", expected = CSV_COLUMNS.join(","))]
    Header {
        /// Line number, from 1.
        line: usize,
    },
    /// A row does not hold what the header promises.
    #[error("line {line}: {why}")]
    Row {
        /// Line number, from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A comment line of ours that does not hold what it should.
    #[error("line {line}: the comment `{key}` is damaged: {why}")]
    Comment {
        /// Line number, from 1.
        line: usize,
        /// Which comment.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// Some of the comments that say where the numbers come from are there, and some are not.
    #[error("the comments are incomplete: {} missing", keys.join(", "))]
    Missing {
        /// Those that are not.
        keys: Vec<&'static str>,
    },
    /// Written by a later version of this program.
    #[error(
        "it has schema {found} and this program reads up to {SCHEMA_VERSION}: use a newer splitlock"
    )]
    Schema {
        /// The version that the file names.
        found: u64,
    },
}

impl Sweep {
    /// Reads a table that [`Sweep::write_csv`] wrote, or one with the same columns and no comments.
    /// A byte order mark, which some programs put in front, is passed over.
    ///
    /// # Errors
    /// The first thing from the top that is not as it should be, with its line unless the schema is a
    /// later one. Only if all lines are good, comments that are missing.
    pub fn read_csv(input: impl BufRead) -> Result<Self, ReadCsvError> {
        let mut input = BoundedLines::new(input);
        let mut comments = Comments::default();
        let mut line = String::new();
        let mut line_number = 0;
        loop {
            line.clear();
            line_number += 1;
            let end_of_file = input.read_line(&mut line)? == 0;
            if line_number == 1 && line.starts_with(BYTE_ORDER_MARK) {
                line.remove(0);
            }
            match line.strip_prefix('#') {
                Some(comment) => comments.add(comment, line_number)?,
                None if !end_of_file && line.trim_end() == CSV_COLUMNS.join(",") => break,
                None => return Err(ReadCsvError::Header { line: line_number }),
            }
        }
        let samples = read_rows(input, line_number as u64)?;
        Ok(Sweep {
            provenance: comments.into_provenance()?,
            samples,
        })
    }
}

fn read_rows(input: impl BufRead, header_line: u64) -> Result<Vec<Sample>, ReadCsvError> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .comment(Some(b'#'))
        .from_reader(input);
    let columns = csv::StringRecord::from(CSV_COLUMNS.to_vec());
    let mut samples = vec![];
    let mut record = csv::StringRecord::new();
    loop {
        let row = reader
            .read_record(&mut record)
            .and_then(|more| more.then(|| record.deserialize(Some(&columns))).transpose());
        match row {
            Ok(Some(sample)) => samples.push(sample),
            Ok(None) => return Ok(samples),
            Err(error) => return Err(row_error(error, header_line)),
        }
    }
}

fn row_error(error: csv::Error, header_line: u64) -> ReadCsvError {
    let line = header_line + error.position().map_or(0, csv::Position::line);
    let why = match error.into_kind() {
        csv::ErrorKind::Io(error) => return ReadCsvError::Io(error),
        csv::ErrorKind::Deserialize { err, .. } => {
            let column = err
                .field()
                .and_then(|field| CSV_COLUMNS.get(field as usize));
            let column = column.map_or(String::new(), |name| format!("column {name}: "));
            format!("{column}{}", err.kind())
        }
        csv::ErrorKind::UnequalLengths { len, .. } => {
            format!("{len} fields instead of {}", CSV_COLUMNS.len())
        }
        csv::ErrorKind::Utf8 { .. } => "not UTF-8 text".into(),
        _ => "not a row of this table".into(),
    };
    ReadCsvError::Row { line, why }
}

/// The comments that make up a [`Provenance`], as far as they have been read.
#[derive(Default)]
struct Comments {
    program: Option<String>,
    command: Option<Vec<String>>,
    seed: Option<u64>,
    started_utc: Option<String>,
    planned_samples: Option<u64>,
    host: Option<HostFacts>,
    /// Only there if a guest worked.
    work_turns_per_second: BTreeMap<String, u64>,
}

impl Comments {
    /// Takes one comment. Those with other keys are somebody's notes.
    fn add(&mut self, comment: &str, line: usize) -> Result<(), ReadCsvError> {
        let Some((key, text)) = comment.trim().split_once(": ") else {
            return Ok(());
        };
        match key {
            SCHEMA => {
                let found = parse(key, line, text)?;
                if found > u64::from(SCHEMA_VERSION) {
                    return Err(ReadCsvError::Schema { found });
                }
            }
            "program" => self.program = Some(parse(key, line, text)?),
            "command" => self.command = Some(parse(key, line, text)?),
            "seed" => self.seed = Some(parse(key, line, text)?),
            "started_utc" => self.started_utc = Some(parse(key, line, text)?),
            "planned_samples" => self.planned_samples = Some(parse(key, line, text)?),
            "host" => self.host = Some(parse(key, line, text)?),
            "work_turns_per_second" => self.work_turns_per_second = parse(key, line, text)?,
            _ => {}
        }
        Ok(())
    }

    /// All of them, or none: half an origin would be taken for a whole one.
    fn into_provenance(self) -> Result<Option<Provenance>, ReadCsvError> {
        let given = [
            ("program", self.program.is_some()),
            ("command", self.command.is_some()),
            ("seed", self.seed.is_some()),
            ("started_utc", self.started_utc.is_some()),
            ("planned_samples", self.planned_samples.is_some()),
            ("host", self.host.is_some()),
        ];
        let missing = given.iter().filter(|(_, is_given)| !is_given);
        let keys: Vec<_> = missing.map(|&(key, _)| key).collect();
        if keys.len() == given.len() {
            return Ok(None);
        }
        let whole = || {
            Some(Provenance {
                program: self.program?,
                command: self.command?,
                seed: self.seed?,
                started_utc: self.started_utc?,
                planned_samples: self.planned_samples?,
                host: self.host?,
                work_turns_per_second: self.work_turns_per_second,
            })
        };
        whole().map(Some).ok_or(ReadCsvError::Missing { keys })
    }
}

fn parse<T: DeserializeOwned>(key: &str, line: usize, json: &str) -> Result<T, ReadCsvError> {
    serde_json::from_str(json).map_err(|error| ReadCsvError::Comment {
        line,
        key: key.into(),
        why: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Sweep, ReadCsvError> {
        Sweep::read_csv(text.as_bytes())
    }

    fn refusal(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    /// The fixture's lines, those that this is true of.
    fn lines(is_kept: impl Fn(&&str) -> bool, end: &str) -> String {
        let text = text(&fixtures::sweep());
        let kept = text.lines().filter(is_kept);
        kept.fold(String::new(), |all, line| all + line + end)
    }

    fn text(sweep: &Sweep) -> String {
        let mut bytes = vec![];
        sweep.write_csv(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn comes_back_as_it_was_written() {
        let sweep = fixtures::sweep();
        assert_eq!(read(&text(&sweep)).unwrap(), sweep);
    }

    #[test]
    fn work_that_nobody_did_is_not_mentioned() {
        let mut sweep = fixtures::sweep();
        assert!(text(&sweep).contains("# work_turns_per_second: {\"cpl3\":1040000000}\n"));
        sweep.provenance.as_mut().unwrap().work_turns_per_second = BTreeMap::new();
        assert!(!text(&sweep).contains("work_turns"));
        assert_eq!(read(&text(&sweep)).unwrap(), sweep);
    }

    #[test]
    fn a_table_without_comments_has_no_provenance() {
        let plain = lines(|line| !line.starts_with('#'), "\r\n");
        let read = read(&plain).unwrap();
        assert_eq!(read.provenance, None);
        assert_eq!(read.samples, fixtures::sweep().samples);
    }

    #[test]
    fn a_damaged_row_is_named_by_line_and_column() {
        let damaged = text(&fixtures::sweep()).replace(",850,", ",many,");
        let error = refusal(&damaged);
        let line = damaged.lines().position(|l| l.contains("many")).unwrap() + 1;
        let expected = format!("line {line}: column turns");
        assert!(error.starts_with(&expected), "{error}");
    }

    #[test]
    fn a_short_row_says_so() {
        let short = format!("{}\nmeasured,split\n", CSV_COLUMNS.join(","));
        let error = refusal(&short);
        assert!(error.starts_with("line 2: "), "{error}");
    }

    #[test]
    fn something_else_is_not_taken_for_a_sweep() {
        for other in ["", "a,b\n1,2\n", "# a note\n\n", "\u{0}\u{0}"] {
            let error = read(other).unwrap_err();
            let is_header = matches!(error, ReadCsvError::Header { .. });
            assert!(is_header, "{other:?}: {error}");
        }
    }

    #[test]
    fn a_row_that_looks_like_a_comment_is_none() {
        let mut sweep = fixtures::sweep();
        sweep.samples[0].series = "# a series".into();
        assert_eq!(read(&text(&sweep)).unwrap(), sweep);
    }

    #[test]
    fn a_later_schema_is_refused() {
        let later = format!("# {SCHEMA}: 99\n{}", text(&fixtures::sweep()));
        let error = read(&later).unwrap_err();
        assert!(
            matches!(error, ReadCsvError::Schema { found: 99 }),
            "{error}"
        );
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        let marked = format!("\u{feff}{}", text(&fixtures::sweep()));
        assert_eq!(read(&marked).unwrap(), fixtures::sweep());
        let plain = format!("\u{feff}{}\n", CSV_COLUMNS.join(","));
        assert_eq!(read(&plain).unwrap().samples, []);
    }

    #[test]
    fn a_damaged_comment_is_named_by_its_line() {
        for (key, value) in [
            ("seed", "\"x\""),
            ("seed", "-1"),
            ("host", "{}"),
            ("command", "[1]"),
            ("program", "nonsense"),
            (SCHEMA, "\"1\""),
        ] {
            let whole = text(&fixtures::sweep());
            let beginning = format!("# {key}: ");
            let line = whole.lines().position(|l| l.starts_with(&beginning));
            let line = line.unwrap();
            let damaged = whole.replace(
                whole.lines().nth(line).unwrap(),
                &format!("{beginning}{value}"),
            );
            let error = refusal(&damaged);
            let expected = format!("line {}: the comment `{key}` is damaged: ", line + 1);
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn the_first_damage_from_the_top_is_reported() {
        let damaged = text(&fixtures::sweep()).replace("# seed: 7", "# seed: x");
        let header = damaged.replace("series,guest", "series;guest");
        assert!(refusal(&header).contains("comment `seed`"));
        let row = |line: &&str| !line.starts_with("# host");
        let row = lines(row, "\n").replace(",850,", ",many,");
        assert!(refusal(&row).contains("column turns"));
    }

    #[test]
    fn half_an_origin_is_none() {
        let kept = |line: &&str| !line.starts_with("# seed") && !line.starts_with("# host");
        let error = refusal(&lines(kept, "\n"));
        assert_eq!(error, "the comments are incomplete: seed, host missing");
    }

    #[test]
    fn endless_input_is_given_up() {
        let endless = io::BufReader::new(io::repeat(0));
        let error = Sweep::read_csv(endless).unwrap_err().to_string();
        assert!(error.contains("a line is longer than"), "{error}");
        let header = format!("# a note\n{}\n\"", CSV_COLUMNS.join(","));
        let endless = io::Read::chain(header.as_bytes(), io::repeat(b'x'));
        let error = Sweep::read_csv(io::BufReader::new(endless)).unwrap_err();
        assert!(matches!(error, ReadCsvError::Io(_)), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Sweep::read_csv(bytes.as_slice());
            let with_header = [CSV_COLUMNS.join(",").as_bytes(), b"\n", &bytes].concat();
            let _ = Sweep::read_csv(with_header.as_slice());
        }

        #[test]
        fn any_text_survives_the_round_trip(series: String, guest in "\\PC*", turns: u64) {
            let mut sweep = fixtures::sweep();
            sweep.samples[0].series = series;
            sweep.samples[0].guest = guest;
            sweep.samples[0].turns = turns;
            prop_assert_eq!(read(&text(&sweep)).unwrap(), sweep);
        }
    }
}
