//! Events for people. Rows are printed as they come, so columns are as wide as they usually need to be.

use split_lock_log::{Message, Record};
use split_lock_report::text::plain;
use unicode_width::UnicodeWidthStr;

use super::words;

const TIME: usize = 26;
const EVENT: usize = 16;
const NUMBER: usize = 10;
const ADDRESS: usize = 18;

pub(super) fn heading() -> String {
    line(["time", "event", "thread", "address", "name"].map(str::to_owned))
}

/// `file` is named if there are several.
pub(super) fn row(file: Option<&str>, record: &Record) -> String {
    let (number, address, name) = match &record.message {
        Message::Trap(trap) => (
            trap.tid.to_string(),
            format!("{:#x}", trap.address),
            String::from_utf8_lossy(&trap.comm).into_owned(),
        ),
        Message::Suppressed(suppressed) => {
            (suppressed.count.to_string(), String::new(), detail(record))
        }
        _ => (String::new(), String::new(), detail(record)),
    };
    let name = match file {
        Some(file) => format!("{name}  ({file}:{})", record.line),
        None => name,
    };
    let time = String::from_utf8_lossy(&record.stamp.text).into_owned();
    let event = words::event(&record.message).replace('_', " ");
    line([time, event, number, address, name])
}

fn detail(record: &Record) -> String {
    words::detail(&record.message).unwrap_or_default()
}

fn line(cells: [String; 5]) -> String {
    let [time, event, number, address, name] = cells.map(|cell| plain(&cell));
    let room = |cell: &str, width: usize| " ".repeat(width.saturating_sub(cell.width()));
    let line = format!(
        "{time}{} {event}{} {}{number} {}{address}  {name}",
        room(&time, TIME),
        room(&event, EVENT),
        room(&number, NUMBER),
        room(&address, ADDRESS),
    );
    format!("{}\n", line.trim_end())
}
