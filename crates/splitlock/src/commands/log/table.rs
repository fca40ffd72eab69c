//! Events for people. Rows are printed as they come, so columns are as wide as they usually need to be.

use split_lock_log::Event;
use unicode_width::UnicodeWidthStr;

use split_lock_report::text::plain;

const TIME: usize = 26;
const EVENT: usize = 16;
const NUMBER: usize = 10;
const ADDRESS: usize = 18;

pub(super) fn heading() -> String {
    line(["time", "event", "thread", "address", "name"].map(str::to_owned))
}

/// `with_file` where there are several.
pub(super) fn row(event: &Event, with_file: bool) -> String {
    let number = event.tid.map(u64::from).or(event.suppressed);
    let name = event.comm.as_deref().or(event.detail.as_deref());
    let mut name = name.unwrap_or_default().to_owned();
    if with_file {
        name += &format!("  ({}:{})", event.file, event.line);
    }
    line([
        event.time.as_deref().unwrap_or_default().to_owned(),
        event.event.replace('_', " "),
        number.map_or_else(String::new, |number| number.to_string()),
        event.address.clone().unwrap_or_default(),
        name,
    ])
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
