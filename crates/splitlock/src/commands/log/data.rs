//! Events for programs: the same fields in JSON and CSV.

use anyhow::Result;
use csv::WriterBuilder;
use serde::Serialize;
use split_lock_log::Event;

use split_lock_report::text::plain;

#[derive(Serialize)]
struct Versioned<'a> {
    #[serde(flatten)]
    event: &'a Event<'a>,
    schema: &'static str,
    schema_version: u32,
}

/// One line. Control characters are escaped, those that JSON would allow as well.
pub(super) fn json(event: &Event) -> Result<String> {
    let text = serde_json::to_string(&Versioned {
        event,
        schema: "splitlock-log",
        schema_version: 1,
    })?;
    let escaped = |c: char| match c {
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    Ok(text.chars().map(escaped).chain(["\n".to_owned()]).collect())
}

/// One line, too: control characters are replaced, newlines among them.
pub(super) fn csv(event: &Event) -> Result<String> {
    let line = serialize(event, false)?;
    Ok(format!("{}\n", plain(line.trim_end_matches('\n'))))
}

pub(super) fn csv_heading() -> Result<String> {
    let heading_and_line = serialize(&Event::default(), true)?;
    let heading = heading_and_line.split_inclusive('\n').next();
    Ok(heading.unwrap_or_default().to_owned())
}

fn serialize(event: &Event, with_heading: bool) -> Result<String> {
    let mut writer = WriterBuilder::new()
        .has_headers(with_heading)
        .from_writer(vec![]);
    writer.serialize(event)?;
    Ok(String::from_utf8(writer.into_inner()?)?)
}
