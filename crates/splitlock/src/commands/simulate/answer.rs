//! What a simulation shows, for people and as JSON.

use serde_json::{Value, json};
use split_lock_model::explain::explain;
use split_lock_model::kernel::Profile;
use split_lock_model::sim::{
    Report, Scenario, TaskKind, TaskReport, TaskSpec, TimeByCause, TrapCounts, Verdict,
};
use split_lock_model::time::Nanos;
use split_lock_report::columns::columns;
use split_lock_report::number::grouped;
use split_lock_report::timeline::{self, View};

use crate::terminal::{self, paragraphs};

/// More threads than this are summed up in a line: in tables, and in words.
const MOST_ROWS: usize = 16;
const MOST_EXPLAINED: usize = 6;

/// Threads that are livelocked for all that anybody can tell: no window lets them past.
fn livelocked(report: &Report) -> usize {
    count(report, |verdict| {
        matches!(verdict, Verdict::Livelocked(_) | Verdict::NoProgressSeen)
    })
}

pub(super) fn has_unused_windows(report: &Report) -> bool {
    windows_unused(report) > 0
}

fn windows_unused(report: &Report) -> usize {
    count(report, |verdict| {
        matches!(verdict, Verdict::WindowsUnused { .. })
    })
}

fn count(report: &Report, is_one: fn(&Verdict) -> bool) -> usize {
    let verdicts = report.tasks.iter().map(|task| &task.verdict);
    verdicts.filter(|verdict| is_one(verdict)).count()
}

pub(super) fn as_json(
    kernel: &Profile,
    assumed: Option<&str>,
    scenario: &Scenario,
    report: &Report,
) -> Value {
    json!({
        "schema": "splitlock-simulation",
        "schema_version": 1,
        "durations_in": "ns",
        "kernel": kernel,
        "assumed": assumed,
        "verdict": headline(report),
        "livelocked": livelocked(report) > 0,
        "windows_unused": has_unused_windows(report),
        "explanation": explain(kernel, scenario, report),
        "scenario": scenario,
        "report": report,
    })
}

pub(super) fn as_text(
    kernel: &Profile,
    assumed: Option<&str>,
    scenario: &Scenario,
    report: &Report,
    view: &View,
) -> String {
    let mut text = paragraphs(&headline(report));
    if let Some(note) = assumed {
        text.push_str(&paragraphs(note));
    }
    text.push('\n');
    let explained = explain(kernel, scenario, report);
    // The kernel comes first, then the threads, of which those with a timer come first.
    let parts: Vec<&str> = explained.split("\n\n").collect();
    let shown = parts.len().min(1 + MOST_EXPLAINED);
    text.push_str(&paragraphs(parts[..shown].join("\n\n").trim_end()));
    text.push_str(&and_more(parts.len() - shown));
    let heading = format!("\nWhere the time went, in {} simulated:\n", report.elapsed);
    text.push_str(&heading);
    text.push_str(&where_time_went(scenario, report));
    text.push_str("\nWhat became of the traps:\n");
    text.push_str(&what_became_of_traps(report));
    text.push_str(&format!("\n{} from {} on:\n", view.length, view.from));
    text.push_str(&timeline::text(view, terminal::width()));
    text
}

fn headline(report: &Report) -> String {
    let of_all = |threads: usize| match report.tasks.len() {
        1 => String::new(),
        all => format!(" ({threads} of {all} threads)"),
    };
    match report.verdict() {
        Verdict::Livelocked(_) => format!("Livelocked{}.", of_all(livelocked(report))),
        Verdict::NoProgressSeen => format!("No progress seen{}.", of_all(livelocked(report))),
        Verdict::WindowsUnused {
            granted, unused, ..
        } => format!(
            "Windows unused{}: {unused} of {granted} closed before the split lock was executed.",
            of_all(windows_unused(report))
        ),
        Verdict::Dead => "Ended by a signal.".into(),
        verdict @ Verdict::Slowed { .. } => {
            let factor = verdict.factor();
            format!("Progresses, {factor:.1} times slower than without detection.")
        }
        Verdict::Progresses => "Progresses.".into(),
    }
}

fn where_time_went(scenario: &Scenario, report: &Report) -> String {
    let is_program = |task: &TaskSpec| matches!(task.kind, TaskKind::User { .. });
    let outside = match scenario.tasks.iter().all(is_program) {
        true => "handler",
        false => "VMM",
    };
    let parts: [(&str, Part); 8] = [
        ("guest", |time| time.guest),
        ("interrupts", |time| time.interrupts),
        ("asleep", |time| time.asleep),
        ("queued", |time| time.queued),
        ("kernel", |time| time.kernel),
        (outside, |time| time.vmm),
        ("other thread", |time| time.waiting_for_cpu),
        ("window unused", |time| time.window_unused),
    ];
    let happens = report.tasks.iter().any(|t| t.time.interrupts > Nanos::ZERO);
    let is_shown = |(name, _): &&(&str, Part)| happens || *name != "interrupts";
    let parts: Vec<_> = parts.iter().filter(is_shown).collect();
    let mut headings = vec!["", "turns"];
    headings.extend(parts.iter().map(|(name, _)| name));
    table(report, &headings, |task| {
        let all = task.time.total();
        let shares = parts.iter().map(|(_, part)| percent(part(&task.time), all));
        std::iter::once(grouped(task.turns as f64))
            .chain(shares)
            .collect()
    })
}

type Part = fn(&TimeByCause) -> Nanos;
type Count = fn(&TrapCounts) -> u64;

fn what_became_of_traps(report: &Report) -> String {
    let mut columns: Vec<(&str, Count)> = vec![
        ("window", |traps| traps.window),
        ("sleep cut short", |traps| traps.cut_asleep),
        ("wait cut short", |traps| traps.cut_queued),
        ("signal pending", |traps| traps.signal_pending),
    ];
    let rare: [(&str, Count); 7] = [
        ("unused: interrupts", |traps| traps.unused.interrupts),
        ("unused: no CPU", |traps| traps.unused.without_cpu),
        ("unused: outside", |traps| traps.unused.outside),
        ("unused: moved", |traps| traps.unused.moved),
        ("SIGBUS", |traps| traps.sigbus),
        ("exempted", |traps| traps.exempted),
        ("bus lock (#DB)", |traps| traps.bus_lock),
    ];
    let happened = |count: Count| report.tasks.iter().any(|t| count(&t.traps) > 0);
    columns.extend(rare.into_iter().filter(|(_, count)| happened(*count)));
    let mut headings = vec![""];
    headings.extend(columns.iter().map(|(name, _)| name));
    table(report, &headings, |task| {
        let counts = columns.iter().map(|(_, count)| count(&task.traps));
        counts.map(|count| count.to_string()).collect()
    })
}

fn table(report: &Report, headings: &[&str], cells: impl Fn(&TaskReport) -> Vec<String>) -> String {
    let row = |task: &TaskReport| {
        let name = std::iter::once(task.name.clone());
        name.chain(cells(task)).collect()
    };
    let mut text = columns(headings, report.tasks.iter().take(MOST_ROWS).map(row));
    text.push_str(&and_more(report.tasks.len().saturating_sub(MOST_ROWS)));
    text
}

fn and_more(threads: usize) -> String {
    match threads {
        0 => String::new(),
        more => format!("and {more} more threads (all of them with --json)\n"),
    }
}

fn percent(part: Nanos, of: Nanos) -> String {
    match (part.0, of.0) {
        (0, _) | (_, 0) => "-".into(),
        (part, of) => format!("{:.1} %", 100.0 * part as f64 / of as f64),
    }
}
