//! `splitlock simulate`

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use split_lock_model::explain::explain;
use split_lock_model::kernel::Profile;
use split_lock_model::machine::{CpuId, Hardware, Topology};
use split_lock_model::sim::{
    Budget, Program, Report, Scenario, TaskKind, TaskReport, TaskSpec, TrapCounts, Until, Verdict,
    simulate,
};
use split_lock_model::time::Nanos;
use split_lock_model::trace;
use split_lock_report::columns::columns;
use split_lock_report::figure::livelock_timeline;
use split_lock_report::number::grouped;
use split_lock_report::timeline::{self, View};

use crate::Exit;
use crate::args::model::{BudgetKind, FailOn, GuestKind, HardwareKind, SimulateArgs};
use crate::kernel::asked_or_of_this_host;
use crate::output::Output;
use crate::picture_file::PictureFile;
use crate::stdout;
use crate::terminal::{self, paragraphs};

/// When the timed threads join those that split without pause: those have settled by then.
const JOIN: Nanos = Nanos::from_millis(100);

/// How much of the beginning is shown as text.
const SHOWN: Nanos = Nanos::from_millis(30);

/// Timer signals of all threads together: some tens of seconds of work.
const MOST_STEPS: u128 = 20_000_000;

/// How much of it goes into a trace, and how many spans at most.
const TRACED: Nanos = Nanos::from_secs(1);
const TRACED_SPANS: usize = 1_000_000;

/// More threads than this are summed up in a line: in tables, and in words.
const MOST_ROWS: usize = 16;
const MOST_EXPLAINED: usize = 6;

pub(crate) fn run(args: &SimulateArgs) -> Result<Exit> {
    let (kernel, assumed) = asked_or_of_this_host(args.kernel.as_ref())?;
    let scenario = scenario(args, args.timeout)?;
    if args.json && args.trace.as_deref() == Some(Path::new("-")) {
        bail!("--json and --trace - would write to the same place");
    }
    let trace = args.trace.as_deref().map(Output::prepare).transpose()?;
    let picture = args
        .picture
        .as_deref()
        .map(PictureFile::prepare)
        .transpose()?;

    let busy = ProgressBar::new_spinner().with_message("simulating");
    busy.enable_steady_tick(Duration::from_millis(250));
    let report = simulate(&kernel, &scenario);
    busy.finish_and_clear();
    let report = report?;

    if let Some(file) = picture {
        let other = args
            .compare
            .map(|timeout| self::scenario(args, timeout))
            .transpose()?;
        let scenarios: Vec<_> = std::iter::once(scenario.clone()).chain(other).collect();
        file.write(&livelock_timeline(&kernel, &scenarios)?)?;
    }
    let text = if args.json {
        let value = as_json(&kernel, assumed.as_deref(), &scenario, &report)?;
        format!("{}\n", serde_json::to_string_pretty(&value)?)
    } else {
        let view = View::of(&kernel, &scenario, timeline::beginning(&scenario), SHOWN)?;
        as_text(&kernel, assumed.as_deref(), &scenario, &report, &view)
    };
    match trace {
        Some(Output::Standard) => write_trace(Output::Standard, &kernel, &scenario)?,
        Some(file) => {
            write_trace(file, &kernel, &scenario)?;
            stdout::print(&text)?;
        }
        None => stdout::print(&text)?,
    }
    let found = args.fail_on == Some(FailOn::Livelock) && stuck(&report).next().is_some();
    Ok(if found { Exit::Found } else { Exit::Fine })
}

fn scenario(args: &SimulateArgs, timeout: Duration) -> Result<Scenario> {
    if args.user && args.budget == BudgetKind::Cpu {
        bail!("--budget cpu: with --user the interval timer counts time, so use relative or none");
    }
    let topology = topology(args)?;
    let subject = subject(args, timeout.into())?;
    let (splitting, on) = (Program::split_loop(args.split_cost.into())?, |n| {
        place(topology, n)
    });
    let mut tasks = vec![];
    for n in 0..args.threads {
        let name = match args.threads {
            1 => subject.name.clone(),
            _ => format!("{} {n}", subject.name),
        };
        let start = if args.others > 0 { JOIN } else { Nanos::ZERO };
        tasks.push(subject.clone().named(name).on(on(n)).starting_at(start));
    }
    for n in 0..args.others {
        // Not all at once, and all well before the timed ones join.
        let start = Nanos::from_micros(1_300 * u64::from(n) % 50_000);
        let other = TaskSpec::user(splitting, None).named(format!("other {n}"));
        tasks.push(other.on(on(args.threads + n)).starting_at(start));
    }
    let mut scenario = Scenario::new(topology, tasks);
    scenario.tick_phase = args.phase.into();
    scenario.horizon = args.horizon.into();
    scenario.seed = args.seed;
    scenario.hardware = match args.hardware {
        HardwareKind::IceLake => Hardware::ICE_LAKE,
        HardwareKind::SapphireRapids => Hardware::SAPPHIRE_RAPIDS,
        HardwareKind::Zen5 => Hardware::ZEN_5,
        HardwareKind::None => Hardware::NONE,
    };
    refuse_to_take_for_ever(&scenario)?;
    Ok(scenario)
}

/// A simulation always ends, but it should do so while somebody waits for it.
fn refuse_to_take_for_ever(scenario: &Scenario) -> Result<()> {
    let timers = scenario
        .tasks
        .iter()
        .flat_map(|task| [task.period(), task.noise, task.migrate_every]);
    // Ticks go on whether or not there are timers.
    let shortest = timers.flatten().fold(Nanos::from_millis(1), Nanos::min);
    let steps = u128::from(scenario.horizon.0) / u128::from(shortest.0.max(1));
    let steps = steps * scenario.tasks.len() as u128;
    if steps > MOST_STEPS {
        bail!(
            "horizon: {} threads with something every {shortest} for {} take {steps} steps, and \
             {MOST_STEPS} is the limit: shorten --horizon",
            scenario.tasks.len(),
            scenario.horizon
        );
    }
    Ok(())
}

fn topology(args: &SimulateArgs) -> Result<Topology> {
    let threads = args.threads + args.others;
    let whole_cores = || threads.checked_next_multiple_of(args.smt.max(1));
    let cpus = args.cpus.or_else(whole_cores).unwrap_or(threads);
    Ok(Topology::new(cpus, args.smt)?)
}

/// As Linux spreads threads: first one on each core, then on the cores' other CPUs.
fn place(machine: Topology, n: u32) -> CpuId {
    let n = n % machine.cpus();
    CpuId(n % machine.cores() * machine.siblings() + n / machine.cores())
}

fn subject(args: &SimulateArgs, timeout: Nanos) -> Result<TaskSpec> {
    let (compute, splits) = match args.guest {
        Some(GuestKind::Split) => (Duration::ZERO, 1),
        Some(GuestKind::Sparse(compute)) => (compute, 1),
        None => (args.compute, args.splits),
    };
    let program = Program::new(compute.into(), splits, args.split_cost.into())?;
    let budget = match args.budget {
        BudgetKind::Relative => Budget::Relative(timeout),
        BudgetKind::Absolute => Budget::Absolute(timeout),
        BudgetKind::Cpu => Budget::ThreadCpu(timeout),
        BudgetKind::None => Budget::Unbounded,
    };
    let mut task = if args.user {
        TaskSpec::user(program, budget.period())
    } else {
        TaskSpec::vcpu(program, budget)
    };
    task.noise = args.noise.map(Nanos::from);
    task.migrate_every = args.migrate.map(Nanos::from);
    Ok(task)
}

/// Threads that are livelocked for all that anybody can tell.
fn stuck(report: &Report) -> impl Iterator<Item = &TaskReport> {
    let is_stuck = |task: &&TaskReport| {
        matches!(
            task.verdict,
            Verdict::Livelocked(_) | Verdict::NoProgressSeen
        )
    };
    report.tasks.iter().filter(is_stuck)
}

fn write_trace(to: Output, kernel: &Profile, scenario: &Scenario) -> Result<()> {
    let traced = Scenario {
        horizon: scenario.horizon.min(TRACED),
        until: Until::Horizon,
        trace_spans: TRACED_SPANS,
        ..scenario.clone()
    };
    let timeline = simulate(kernel, &traced)?.timeline;
    let events = trace::to_chrome_json(timeline.as_ref().expect("a trace was asked for"));
    to.write(|out| Ok(serde_json::to_writer(out, &events)?))
}

fn as_json(
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

fn as_text(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_spread_over_cores_first() {
        let machine = Topology::new(4, 2).unwrap();
        let places: Vec<_> = (0..5).map(|n| place(machine, n).0).collect();
        assert_eq!(places, [0, 2, 1, 3, 0]);
    }
}
