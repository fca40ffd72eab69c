//! The table that people look at.

use std::time::Duration;

use split_lock_report::columns::columns;
use split_lock_report::number::{duration, grouped};
use split_lock_report::text::{count, plain, wrap};
use split_lock_watch::{
    Cost, LivelockThreshold, ProcessRow, Snapshot, ThreadRow, ThreadState, TrapOrigin,
};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::host::Host;

/// What of a table fits, and how it may look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) columns: usize,
    /// None where lines may go on for ever.
    pub(super) rows: Option<usize>,
    pub(super) has_colors: bool,
}

const HEADING: [&str; 10] = [
    "THREAD",
    "STATE",
    "STUCK",
    "TRAPS",
    "/S",
    "BACK",
    "PAST",
    "UNUSED",
    "IN HANDLER",
    "AT",
];

/// Before that, the cost of drawing the first table is all that there is.
const ENOUGH_TO_SAY: Duration = Duration::from_millis(250);

/// The whole of it, or the worst of it and how much more there is.
pub(super) fn render(snapshot: &Snapshot, host: &Host, room: Room) -> String {
    let head = head(snapshot);
    let mut tail = alarms(snapshot, host.threshold);
    tail.push(foot(snapshot));
    tail.extend_from_slice(&host.notes);
    let width = |part: &str| part.width() as f64;
    let wrapped = |line: &String| wrap(&plain(line), room.columns as f64, width);
    let tail: Vec<String> = tail.iter().flat_map(wrapped).collect();
    let mut table = table(snapshot);
    if let Some(rows) = room.rows {
        // Two empty lines are between the three.
        let left = rows.saturating_sub(3 + tail.len()).max(2);
        if table.len() > left {
            let hidden = table.len() - (left - 1);
            table.truncate(left - 1);
            table.push((ThreadState::Quiet, format!("... {hidden} more lines")));
        }
    }
    let mut text = fit(&head, room.columns) + "\n\n";
    for (state, line) in &table {
        text += &styled(&fit(line, room.columns), *state, room.has_colors);
        text.push('\n');
    }
    text.push('\n');
    text += &tail.join("\n");
    text.push('\n');
    text
}

fn head(snapshot: &Snapshot) -> String {
    let totals = &snapshot.totals;
    let unused = match totals.windows_unused {
        0 => String::new(),
        windows => format!(" ({} unused)", count(windows, "window", "windows")),
    };
    format!(
        "{}: {}, {} sent back, {} past{unused}, {} in the handler",
        span(snapshot.wall),
        count(totals.traps, "trap", "traps"),
        grouped(totals.interrupted() as f64),
        grouped(totals.windows as f64),
        span(totals.lost),
    )
}

/// A heading, and below each process its threads.
fn table(snapshot: &Snapshot) -> Vec<(ThreadState, String)> {
    if snapshot.threads.is_empty() {
        return vec![(ThreadState::Quiet, "No split-lock traps so far.".to_owned())];
    }
    let mut cells = vec![];
    let mut states = vec![ThreadState::Quiet];
    for process in &snapshot.processes {
        cells.push(group_cells(process));
        states.push(ThreadState::Quiet);
        for row in snapshot.threads.iter().filter(|row| row.pid == process.pid) {
            cells.push(row_cells(row));
            states.push(row.state);
        }
    }
    let lines = columns(HEADING, cells);
    let lines = lines.lines().map(str::to_owned);
    states.into_iter().zip(lines).collect()
}

fn group_cells(process: &ProcessRow) -> Vec<String> {
    let place = match &process.place[..] {
        "" => "(gone)",
        place => place,
    };
    vec![plain(&format!("{place} [{}]", process.pid))]
}

fn row_cells(row: &ThreadRow) -> Vec<String> {
    let totals = &row.totals;
    let origin = row.origin.map_or("", TrapOrigin::name);
    let stuck = match row.failed_in_a_row + row.unused_in_a_row {
        0 => "-".to_owned(),
        _ => span(row.stuck_for),
    };
    vec![
        plain(&format!("  {} {}", row.tid, row.identity.name())),
        if row.ended { "ended" } else { word(row.state) }.to_owned(),
        stuck,
        grouped(totals.traps as f64),
        grouped(row.traps_per_s),
        grouped(totals.interrupted() as f64),
        grouped(totals.windows as f64),
        grouped(totals.windows_unused as f64),
        format!("{} {:3.0} %", span(totals.lost), row.lost_share * 100.0),
        row.rip
            .map_or(String::new(), |rip| format!("{rip:#x} {origin}")),
    ]
}

/// What has to be said about threads that do not get past.
fn alarms(snapshot: &Snapshot, threshold: LivelockThreshold) -> Vec<String> {
    /// More than these say the same.
    const MOST: usize = 3;
    let stuck = snapshot.threads.iter().filter(|row| is_alarming(row.state));
    let shown = stuck.clone().take(MOST).map(|row| alarm(row, threshold));
    let mut alarms: Vec<_> = shown.collect();
    let more = stuck.skip(MOST).count() as u64;
    if more > 0 {
        let more = count(more, "more thread does", "more threads do");
        alarms.push(format!("{more} not get past either."));
    }
    if !alarms.is_empty() {
        alarms.push("`splitlock doctor` says what to do.".to_owned());
    }
    alarms
}

/// Whether there is something to be said about a thread in such a state.
pub(super) fn is_alarming(state: ThreadState) -> bool {
    matches!(state, ThreadState::Livelocked | ThreadState::WindowsUnused)
}

/// For a thread that will not get past, or only by luck.
pub(super) fn alarm(row: &ThreadRow, threshold: LivelockThreshold) -> String {
    let place = row.identity.place();
    let of = match place.is_empty() || place == row.identity.name() {
        true => String::new(),
        false => format!(" of {place}"),
    };
    let at = row.rip.map_or(String::new(), |rip| format!(" at {rip:#x}"));
    if row.state == ThreadState::WindowsUnused {
        return format!(
            "WINDOWS UNUSED: {} ({}){of} was let past the split lock{at} {} in a row, in {}, and did not come to it \
             while detection was off: {}.",
            row.identity.name(),
            row.tid,
            count(row.unused_in_a_row, "time", "times"),
            span(row.stuck_for),
            why_unused(row),
        );
    }
    let every = row
        .interrupted_every
        .map(|every| format!("; a signal every {}", span(every)));
    let every = every.unwrap_or_default();
    let needs = match threshold.never_up_to() {
        Duration::ZERO => String::new(),
        needs => format!(
            ", and this kernel's sleep never ends within {}",
            span(needs)
        ),
    };
    let timers = row.identity.timers.as_ref();
    let timers = timers.map_or(String::new(), |timers| match timers.in_words() {
        seen if seen.is_empty() => " No timer of its own is to be seen.".to_owned(),
        seen => format!(" {seen}"),
    });
    format!(
        "LIVELOCK: {} ({}){of} has come back to the same split lock{at} {} in {}{every}{needs}.{timers}",
        row.identity.name(),
        row.tid,
        count(row.failed_in_a_row, "time", "times"),
        span(row.stuck_for),
    )
}

/// What such a thread does instead, mostly.
fn why_unused(row: &ThreadRow) -> &'static str {
    let is_mostly_without_cpu = 2 * row.totals.windows_without_cpu > row.totals.windows_unused;
    match row.origin {
        _ if is_mostly_without_cpu => "others have its CPU",
        Some(TrapOrigin::Guest) => {
            "its guest does something else first, such as serving interrupts"
        }
        Some(TrapOrigin::User) | None => "it does something else first, such as handling signals",
    }
}

fn foot(snapshot: &Snapshot) -> String {
    let mut parts = vec![match &snapshot.cpus_off[..] {
        [] => "no window is open".to_owned(),
        [cpu] => format!("CPU {cpu} has a window open, without detection"),
        cpus => format!("{} CPUs have windows open, without detection", cpus.len()),
    }];
    if snapshot.lost_events > 0 {
        let lost = count(snapshot.lost_events, "event was", "events were");
        parts.push(format!("{lost} LOST: counts are too low"));
    }
    if snapshot.threads_forgotten > 0 {
        let threads = count(snapshot.threads_forgotten, "thread", "threads");
        parts.push(format!("{threads} more in the sums only"));
    }
    if let Some(relief) = &snapshot.relief {
        parts.push(format!(
            "{} in {}, {} refused",
            count(relief.reliefs, "relief", "reliefs"),
            span(relief.relieved),
            grouped(relief.refused as f64)
        ));
    }
    let Cost { cpu, wall } = snapshot.cost;
    if wall >= ENOUGH_TO_SAY {
        let share = cpu.as_secs_f64() / wall.as_secs_f64();
        parts.push(format!("watching takes {:.2} % of a CPU", share * 100.0));
    }
    format!("{}.", parts.join("; "))
}

pub(super) fn word(state: ThreadState) -> &'static str {
    match state {
        ThreadState::Quiet => "quiet",
        ThreadState::Slowed => "slowed",
        ThreadState::WindowsUnused => "unused",
        ThreadState::HeldUp => "held up",
        ThreadState::Livelocked => "LIVELOCK",
    }
}

fn span(span: Duration) -> String {
    duration(span.as_nanos() as f64)
}

fn fit(line: &str, columns: usize) -> String {
    let mut width = 0;
    let fits = |c: &char| {
        width += c.width().unwrap_or(0);
        width <= columns
    };
    line.chars().take_while(fits).collect()
}

fn styled(line: &str, state: ThreadState, has_colors: bool) -> String {
    let style = match state {
        ThreadState::Livelocked => "1;31",
        ThreadState::HeldUp | ThreadState::WindowsUnused => "33",
        ThreadState::Quiet | ThreadState::Slowed => return line.to_owned(),
    };
    match has_colors {
        true => format!("\x1b[{style}m{line}\x1b[0m"),
        false => line.to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use split_lock_host::attribution::Vm;
    use split_lock_watch::{
        Event, EventKind, LostEvents, ReliefTotals, ThreadIdentity, ThreadTable, Totals,
    };

    use super::*;

    const MS: u64 = 1_000_000;

    fn step(at_ns: u64, tid: u32, kind: EventKind) -> Event {
        Event {
            at_ns,
            cpu: 1,
            tid,
            pid: tid / 100,
            kind,
        }
    }

    /// A vCPU that is kicked each millisecond, another one that gets past, and a program that has ended.
    pub(in super::super) fn snapshot() -> Snapshot {
        let mut table = ThreadTable::new(threshold());
        let trap = |rip| EventKind::Trap {
            origin: TrapOrigin::Guest,
            rip: Some(rip),
        };
        for ms in 0..2000 {
            table.record(&step(ms * MS, 5670, trap(0x7f00_1234)));
            let end = (ms + 1) * MS;
            table.record(&step(end, 5670, EventKind::Slept { left_ms: 12 }));
            table.record(&step(end, 5670, EventKind::Back { retry: true }));
        }
        let past = EventKind::Detection {
            on: false,
            of: None,
        };
        for tid in [5671, 9000] {
            table.record(&step(0, tid, trap(0x40_1000)));
            table.record(&step(15 * MS, tid, past));
        }
        let identity = |tid: u32| ThreadIdentity {
            comm: Some(match tid {
                9000 => "ga\u{1b}[31mme".to_owned(),
                _ => format!("CPU {}/KVM", tid - 5670),
            }),
            process: Some("qemu".to_owned()),
            timers: None,
            vm: (tid < 9000).then(|| {
                let line = ["qemu-system-x86_64", "-name", "windows-11"];
                Vm::of_command_line(&line.map(str::to_owned)).unwrap()
            }),
        };
        let rows = table.threads().map(|(thread, stats)| {
            let row = ThreadRow::new(thread, stats, identity(thread.tid));
            let row = row.since(&Totals::default(), Duration::from_secs(2));
            if thread.tid == 9000 { row.ended() } else { row }
        });
        let mut threads: Vec<_> = rows.collect();
        let processes = ProcessRow::group(&mut threads);
        let wall = Duration::from_secs(2);
        Snapshot {
            at_ns: 2000 * MS,
            wall,
            lost_events: 3,
            lost: LostEvents {
                records: 2,
                probes: 1,
            },
            cost: Cost {
                cpu: Duration::from_millis(5),
                wall,
            },
            cpus_off: table.cpus_off(),
            unprotected: table.unprotected(),
            totals: table.totals(),
            processes,
            threads,
            threads_forgotten: 0,
            relief: Some(ReliefTotals {
                reliefs: 3,
                relieved: Duration::from_millis(7),
                threads_past: 4,
                refused: 1,
                meddled: 0,
            }),
        }
    }

    fn threshold() -> LivelockThreshold {
        LivelockThreshold::new(Duration::from_millis(8))
    }

    fn host() -> Host {
        Host {
            forgets_cpus: false,
            kernel: None,
            hz: Some(250),
            detection: String::new(),
            threshold: threshold(),
            notes: vec!["Something is missing.".to_owned()],
        }
    }

    fn room(columns: usize, rows: Option<usize>) -> Room {
        Room {
            columns,
            rows,
            has_colors: false,
        }
    }

    #[test]
    fn the_worst_comes_first_and_says_why() {
        insta::assert_snapshot!(render(&snapshot(), &host(), room(110, None)));
    }

    #[test]
    fn unused_windows_are_no_livelock_and_have_their_reason() {
        let mut snapshot = snapshot();
        let row = &mut snapshot.threads[0];
        (row.state, row.unused_in_a_row) = (ThreadState::WindowsUnused, 17);
        row.totals.windows_unused = 20;
        let text = render(&snapshot, &host(), room(300, None));
        assert!(!text.contains("LIVELOCK"), "{text}");
        for part in [
            "(5670) of windows-11",
            "17 times in a row",
            "serving interrupts",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        snapshot.threads[0].totals.windows_without_cpu = 11;
        let text = render(&snapshot, &host(), room(300, None));
        assert!(text.contains("others have its CPU"), "{text}");
    }

    #[test]
    fn it_fits_whatever_there_is() {
        for (columns, rows) in [(1, 1), (10, 5), (40, 12), (80, 24), (300, 100)] {
            let text = render(&snapshot(), &host(), room(columns, Some(rows)));
            assert!(!text.contains('\u{1b}'), "{text}");
            let widest = text.lines().map(UnicodeWidthStr::width).max().unwrap();
            assert!(widest <= columns, "{columns}: {text}");
        }
        let text = render(&snapshot(), &host(), room(110, Some(13)));
        assert!(
            text.lines().count() <= 13 && text.contains("more lines"),
            "{text}"
        );
        assert!(text.contains("LIVELOCK: CPU 0/KVM (5670)"), "{text}");
    }

    #[test]
    fn nothing_and_nobody_have_words_of_their_own() {
        let mut snapshot = snapshot();
        snapshot.processes[0].place.clear();
        let text = render(&snapshot, &host(), room(110, None));
        let pid = snapshot.processes[0].pid;
        assert!(text.contains(&format!("\n(gone) [{pid}]\n")), "{text}");
        snapshot.threads.clear();
        let text = render(&snapshot, &host(), room(110, None));
        assert!(
            text.contains("\n\nNo split-lock traps so far.\n\n"),
            "{text}"
        );
    }
}
