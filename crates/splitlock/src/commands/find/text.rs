//! The page for people.

use split_lock_symbols::SourceLine;

use super::Found;
use super::records::Recordings;
use super::site::Site;
use crate::page::{Page, Severity};

/// More sites than that are counted and not described.
const MOST: usize = 100;

pub(super) fn page(found: &Found) -> String {
    let mut page = Page::for_file();
    let (title, severity) = title(found);
    page.title(&title, severity);
    let counted: Vec<_> = found.sites.counted().collect();
    for (n, site) in counted.iter().take(MOST).enumerate() {
        describe(&mut page, n + 1, site, found.is_system);
    }
    if let Some(more) = counted.len().checked_sub(MOST).filter(|&more| more > 0) {
        page.paragraph(&format!("and {more} more, which --json lists"));
    }
    let suppressed = found.sites.all().len() - counted.len();
    let mut notes = vec![];
    if suppressed > 0 {
        notes.push(format!(
            "{} suppressed",
            of(suppressed as u64, "instruction is", "instructions are")
        ));
    }
    for name in &found.unused_suppressions {
        notes.push(format!("the suppression `{name}` matched nothing"));
    }
    notes.extend(gaps(&found.recordings));
    if found.is_system && !found.recordings.tells_spaces && !counted.is_empty() {
        let note =
            "this emulator does not tell which program of the guest it is: QEMU 9.0 and later do";
        notes.push(note.to_owned());
    }
    if !notes.is_empty() {
        page.heading("Notes");
        notes.iter().for_each(|note| page.item("-", note));
    }
    page.into_text()
}

fn title(found: &Found) -> (String, Severity) {
    let recordings = &found.recordings;
    let watched = if found.is_system {
        format!("in the guest of {}", found.emulator)
    } else {
        format!("in {}", of(recordings.files, "program", "programs"))
    };
    let counts: Vec<u64> = found.sites.counted().map(|site| site.count).collect();
    if counts.is_empty() {
        let partly = if recordings.is_incomplete() {
            ", as far as it was watched"
        } else {
            ""
        };
        let severity = match recordings.is_incomplete() {
            true => Severity::Unsure,
            false => Severity::Good,
        };
        return (
            format!("no instruction split a lock {watched}{partly}"),
            severity,
        );
    }
    let (instructions, times) = (
        of(counts.len() as u64, "instruction", "instructions"),
        of(counts.iter().sum(), "time", "times"),
    );
    (
        format!("{instructions} split locks, {times}, {watched}"),
        Severity::Bad,
    )
}

fn describe(page: &mut Page, n: usize, site: &Site, is_system: bool) {
    let code = &site.code;
    page.heading(&format!(
        "{n}. {}: {}",
        of(site.count, "time", "times"),
        code.text
    ));
    let function = site.function();
    let module = match (&code.module, code.offset) {
        (Some(module), Some(offset)) => Some(format!("{module} at {offset:#x}")),
        (module, _) => module.clone(),
    };
    match (&function, &module) {
        (Some(function), _) => page.verbatim(&format!("in {function}")),
        (None, Some(_)) => {}
        (None, None) if is_system => page.verbatim(&format!("at {:#x} in the guest", code.pc)),
        (None, None) => page.verbatim(&format!(
            "in code without a file at {:#x}{}",
            code.pc,
            in_programs(site)
        )),
    }
    for (n, line) in code.source.iter().enumerate() {
        let what = if n == 0 { "line" } else { "inlined into" };
        page.verbatim(&format!("{what} {line}"));
    }
    let calls = code.own_callers();
    for call in calls {
        let function = call.function.as_ref();
        let function = function.map(|(name, _)| format!("{}, ", name.demangled));
        let line = call.source.first().map(SourceLine::to_string);
        let module = || call.module.clone().unwrap_or_default();
        page.verbatim(&format!(
            "called by {}{}",
            function.unwrap_or_default(),
            line.unwrap_or_else(module)
        ));
        for line in call.source.iter().skip(1) {
            page.verbatim(&format!("inlined into {line}"));
        }
    }
    if !calls.is_empty() && site.has_more_callers {
        page.verbatim("the first time; later by others, too");
    }
    if let Some(module) = module {
        page.verbatim(&format!("{module}{}", in_programs(site)));
    }
    describe_spaces(page, site);
    let operand = &site.operand;
    page.verbatim(&format!(
        "{} at offset {} of a cache line: {}",
        of(operand.bytes, "byte", "bytes"),
        operand.line_offset(),
        operand.in_words()
    ));
    if site.pages > 0 {
        page.verbatim(&format!(
            "across two pages {}",
            of(site.pages, "time", "times")
        ));
    }
    if site.threads > 1 {
        let more = if site.has_more_threads {
            "more than "
        } else {
            ""
        };
        let what = if is_system { "vCPUs" } else { "threads" };
        page.verbatim(&format!("by {more}{} {what}", site.threads));
    }
}

/// In which of the guest's address spaces.
fn describe_spaces(page: &mut Page, site: &Site) {
    const MOST_SHOWN: usize = 3;
    for space in site.spaces.iter().take(MOST_SHOWN) {
        let program = match &*String::from_utf8_lossy(&space.program) {
            "" => "a program".to_owned(),
            program => program.to_owned(),
        };
        page.verbatim(&format!(
            "in {program}, {}: page table at {:#x}",
            of(space.count, "time", "times"),
            space.page_table
        ));
    }
    let more = site.spaces.len().saturating_sub(MOST_SHOWN);
    if more > 0 {
        let at_least = if site.has_more_spaces {
            "more than "
        } else {
            ""
        };
        page.verbatim(&format!("and in {at_least}{more} others"));
    }
}

/// The programs, where they are others than the file.
fn in_programs(site: &Site) -> String {
    if !site.spaces.is_empty() {
        return String::new();
    }
    let others = site
        .programs
        .iter()
        .filter(|it| Some(*it) != site.code.module.as_ref());
    let names: Vec<_> = others.map(String::as_str).collect();
    match names[..] {
        [] => String::new(),
        [one] => format!(", in {one}"),
        [one, ref rest @ ..] => format!(
            ", in {one} and {} more",
            of(rest.len() as u64, "program", "programs")
        ),
    }
}

/// What was not seen, in sentences.
pub(super) fn gaps(recordings: &Recordings) -> Vec<String> {
    let mut all = vec![];
    for ((program, reason), count) in &recordings.unwatched {
        let times = if *count > 1 {
            format!(" ({count} times)")
        } else {
            String::new()
        };
        all.push(format!(
            "not watched{times}: {program}: {reason}; nor is what it executes"
        ));
    }
    let counted = [
        (
            recordings.unwatched_without_room,
            "more programs were not watched",
        ),
        (
            recordings.without_record(),
            "programs have left no record: the emulator could not run them, or had no room to write one",
        ),
        (recordings.damaged, "files of records are not whole"),
        (
            recordings.left_out,
            "locked instructions were not watched, because there are too many",
        ),
        (
            recordings.without_site,
            "split locks were counted only here, because too many instructions split locks",
        ),
    ];
    let counted = counted.into_iter().filter(|&(count, _)| count > 0);
    all.extend(counted.map(|(count, what)| format!("{count} {what}")));
    if !recordings.still_running.is_empty() {
        let pids: Vec<_> = recordings
            .still_running
            .iter()
            .map(u32::to_string)
            .collect();
        all.push(format!(
            "still running, and not told of from now on: {}",
            pids.join(", ")
        ));
    }
    all
}

/// `1 time`, `2 times`
fn of(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}
