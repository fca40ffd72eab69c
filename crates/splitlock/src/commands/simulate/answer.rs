//! What a simulation shows, for people and as JSON.

use anyhow::Result;
use serde_json::{Value, json};
use split_lock_model::explain::explain;
use split_lock_model::kernel::Profile;
use split_lock_model::sim::{Report, Scenario, TaskKind, TaskReport, TrapCounts, Verdict};
use split_lock_model::time::Nanos;
use split_lock_report::columns::columns;
use split_lock_report::number::grouped;
use split_lock_report::timeline::{self, View};

use crate::terminal::{self, paragraphs};

/// More threads than this are summed up in a line: in tables, and in words.
const MOST_ROWS: usize = 16;
const MOST_EXPLAINED: usize = 6;

/// Threads that are livelocked for all that anybody can tell.
pub(super) fn stuck(report: &Report) -> impl Iterator<Item = &TaskReport> {
    let is_stuck = |task: &&TaskReport| {
        matches!(
            task.verdict,
            Verdict::Livelocked(_) | Verdict::NoProgressSeen
        )
    };
    report.tasks.iter().filter(is_stuck)
}

pub(super) fn as_json(
    kernel: &Profile,
    assumed: Option<&str>,
    scenario: &Scenario,
    report: &Report,
) -> Result<Value> {
    Ok(json!({
        "schema": "splitlock-simulation",
        "schema_version": 1,
        "kernel": kernel,
        "assumed": assumed,
        "verdict": headline(report),
        "livelocked": stuck(report).next().is_some(),
        "explanation": explain(kernel, scenario, report),
        "scenario": scenario,
        "report": report,
    }))
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

/// The verdict in a sentence.
fn headline(report: &Report) -> String {
    let (stuck, all) = (stuck(report).count(), report.tasks.len());
    let of_all = match all {
        1 => String::new(),
        _ => format!(" ({stuck} of {all} threads)"),
    };
    match report.verdict() {
        Verdict::Livelocked(_) => format!("Livelocked{of_all}."),
        Verdict::NoProgressSeen => format!("No progress seen{of_all}."),
        Verdict::Dead => "Ended by a signal.".into(),
        Verdict::Slowed { .. } => {
            format!(
                "Progresses, {:.1} times slower than without detection.",
                report.verdict().factor()
            )
        }
        Verdict::Progresses => "Progresses.".into(),
    }
}

fn where_time_went(scenario: &Scenario, report: &Report) -> String {
    let programs_only = scenario
        .tasks
        .iter()
        .all(|task| matches!(task.kind, TaskKind::User { .. }));
    let outside = if programs_only { "handler" } else { "VMM" };
    table(
        report,
        &[
            "",
            "turns",
            "guest",
            "asleep",
            "queued",
            "kernel",
            outside,
            "other thread",
            "window unused",
        ],
        |task| {
            let (time, all) = (&task.time, task.time.total());
            let parts = [
                time.guest,
                time.asleep,
                time.queued,
                time.kernel,
                time.vmm,
                time.waiting_for_cpu,
                time.window_unused,
            ];
            let shares = parts.iter().map(|part| percent(*part, all));
            std::iter::once(grouped(task.turns as f64))
                .chain(shares)
                .collect()
        },
    )
}

type Count = fn(&TrapCounts) -> u64;

fn what_became_of_traps(report: &Report) -> String {
    let mut columns: Vec<(&str, Count)> = vec![
        ("window", |traps| traps.window),
        ("sleep cut short", |traps| traps.cut_asleep),
        ("wait cut short", |traps| traps.cut_queued),
        ("signal pending", |traps| traps.signal_pending),
    ];
    let rare: [(&str, Count); 3] = [
        ("SIGBUS", |traps| traps.sigbus),
        ("exempted", |traps| traps.exempted),
        ("bus lock (#DB)", |traps| traps.bus_lock),
    ];
    let happened = |count: Count| report.tasks.iter().any(|t| count(&t.traps) > 0);
    columns.extend(rare.into_iter().filter(|(_, count)| happened(*count)));
    let headings: Vec<&str> = std::iter::once("")
        .chain(columns.iter().map(|c| c.0))
        .collect();
    table(report, &headings, |task| {
        let counts = columns.iter().map(|(_, count)| count(&task.traps));
        counts.map(|count| count.to_string()).collect()
    })
}

/// A row for each thread.
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
