//! `splitlock watch` in the machine, beside threads that are punished: it has to say of each what the kernel did to it,
//! and to call a livelock what is one, and nothing else.

use std::fmt::Write;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use split_lock_lab::bundle::Bundles;
use split_lock_lab::plan::{Experiment, Kick, Plan, WatchedExperiment, splitlock};
use split_lock_lab::replay::Verdict;
use split_lock_lab::watch::{Expected, Run, WatchMode, WatchReport, judge, thread_stats};
use split_lock_model::analysis::Thresholds;
use split_lock_model::handler::TrapOrigin;

use super::compare::{Comparison, compare};
use super::kernel::Kernel;
use super::lab::{Prepared, bytes};
use super::machine::{INSTRUCTION_NS, Shape};
use super::output;
use super::plans::{SOME_INTERRUPTED, contended, kicked, unmitigated};

/// How long is watched.
const SECONDS: u64 = 5;

/// How long threads split locks meanwhile: the machine settles before and after that.
const SPLIT_MS: u64 = 4_000;

/// What the watch may take of a CPU, beside a thread that traps each millisecond. The CPU here is slower than any that detects
/// split locks, but its clock counts instructions; so they are judged as if they took [`ORDINARY_INSTRUCTION_NS`].
const MOST_OF_A_CPU: f64 = 0.01;

/// Slower than any CPU that detects split locks: they do several in that time when they do them well.
const ORDINARY_INSTRUCTION_NS: u64 = 1;

/// Something to watch.
struct WatchCase {
    experiment: Experiment,
    expected: Expected,
    mode: WatchMode,
    /// Whether what the watch costs is judged.
    judges_cost: bool,
}

impl WatchCase {
    /// The same, watched without probes.
    fn without_probes(mut self) -> Self {
        self.experiment.name += "-no-probes";
        self.mode = WatchMode::Tracepoints;
        self
    }
}

/// Signals too soon for this kernel, none, and those that come in time now and then.
fn cases(limits: &Thresholds, shape: Shape) -> Vec<WatchCase> {
    use Expected::{Either, Livelock, Progress};
    use TrapOrigin::{Guest, User};

    let sometimes = Kick::Every(limits.never_up_to().0 / 1000 + 1_300);
    let cpus = shape.cpus() as u16;
    let case = |experiment, expected| WatchCase {
        experiment,
        expected,
        mode: WatchMode::Probes,
        judges_cost: false,
    };
    let alone = |origin, kick, expected| case(kicked(origin, kick, SPLIT_MS), expected);
    let together = |kicks: &_, expected| case(contended(User, cpus, kicks, SPLIT_MS), expected);
    let without_mitigation = |origin| {
        case(
            unmitigated(origin, cpus, &[Kick::Every(1_000)], SPLIT_MS),
            Progress,
        )
    };
    let mut cases = vec![
        WatchCase {
            judges_cost: true,
            ..alone(Guest, Kick::Every(1_000), Livelock)
        },
        alone(User, Kick::Every(1_000), Livelock),
        alone(Guest, Kick::Never, Progress),
        alone(Guest, sometimes, Progress),
        alone(User, sometimes, Progress),
        together(&[Kick::Never; 2], Progress),
        together(&SOME_INTERRUPTED, Either),
        without_mitigation(Guest),
    ];
    if shape == Shape::OneCpu {
        cases.extend([
            alone(Guest, Kick::Every(1_000), Livelock).without_probes(),
            alone(User, sometimes, Progress).without_probes(),
            without_mitigation(User).without_probes(),
        ]);
    }
    cases
}

fn watched(case: &WatchCase) -> WatchedExperiment {
    let no_probes = match case.mode {
        WatchMode::Probes => "",
        WatchMode::Tracepoints => " --no-probes",
    };
    WatchedExperiment {
        experiment: case.experiment.clone(),
        argv: splitlock(&format!("watch --json --duration {SECONDS}s{no_probes}")),
    }
}

/// Boots a kernel, and compares.
pub(crate) fn run(prepared: &Prepared<'_>) -> Result<bool> {
    let kernel = prepared.kernel;
    let limits = Thresholds::of(&kernel.profile).context("this kernel does not sleep")?;
    let mut seen = Vec::new();
    for shape in Shape::all_for(kernel, false) {
        let cases = cases(&limits, shape);
        let plan = Plan {
            watched: cases.iter().map(watched).collect(),
            ..Plan::default()
        };
        let what = format!("watching {} with {}", kernel.release, shape.name());
        let bundles = prepared.boot(&what, shape, &plan, &[])?;
        for case in &cases {
            seen.push(WatchResult::new(kernel, shape, case, &bundles)?);
        }
    }
    let json = prepared.results.join("watch.json");
    output::write(&json, &serde_json::to_vec(&seen)?)?;
    print!("{}", text(kernel, &seen));
    println!("everything: {}", json.display());
    Ok(seen.iter().all(|seen| seen.judgement.wrong.is_empty()))
}

/// What was done, what was said, and what is wrong with that.
#[derive(Serialize)]
struct WatchResult {
    machine: &'static str,
    compared: Comparison,
    run: Run,
    judgement: WatchReport,
}

impl WatchResult {
    fn new(kernel: &Kernel, shape: Shape, case: &WatchCase, bundles: &Bundles) -> Result<Self> {
        let compared = compare(&kernel.profile, shape, &case.experiment, bundles)?;
        let name = &case.experiment.name;
        let run: Run = serde_json::from_slice(bytes(bundles, &format!("{name}.watch"))?)?;
        let (Some(first), Some(last)) = (compared.journal.first(), compared.journal.last()) else {
            bail!("{name}: nothing happened");
        };
        let threads = thread_stats(&compared.journal, &compared.report.traps);
        let span = (first.ns, last.ns);
        let mut seen = Self {
            machine: shape.name(),
            judgement: judge(&run, &threads, span, case.expected, case.mode),
            compared,
            run,
        };
        seen.judge_the_rest(case);
        Ok(seen)
    }

    /// The counts are only as good as the model's account of the journal.
    fn judge_the_rest(&mut self, case: &WatchCase) {
        let wrong = &mut self.judgement.wrong;
        for mismatch in &self.compared.report.mismatches {
            wrong.push(format!("the model disagrees: {}", mismatch.what));
        }
        let share = self.share_of_ordinary_cpu();
        let wrong = &mut self.judgement.wrong;
        if case.judges_cost && share > MOST_OF_A_CPU {
            wrong.push(format!("{:.2} % of a CPU", share * 100.0));
        }
    }

    /// What the watch takes of a CPU here while it watches.
    fn share_of_cpu(&self) -> f64 {
        self.run.cpu_meanwhile_ns() as f64 / (SECONDS * 1_000_000_000) as f64
    }

    /// And of one that is not as slow.
    fn share_of_ordinary_cpu(&self) -> f64 {
        self.share_of_cpu() * ORDINARY_INSTRUCTION_NS as f64 / INSTRUCTION_NS as f64
    }

    fn row(&self) -> String {
        let report = &self.compared.report;
        let said_after = self.judgement.said_after_ns;
        format!(
            "{:9} {:39} {:5} {:6} {:4} {:8} {:10} {:>8} {:5.2} {:8.2} {:6.0} {:5.0} {}\n",
            self.machine,
            self.compared.experiment.name,
            report.traps.len(),
            report.count(Verdict::Passed),
            report.count(Verdict::CutShort),
            report.count(Verdict::NoSleep),
            report.count(Verdict::LeftQueue),
            said_after.map_or("-".to_owned(), |ns| format!("{} ms", ns / 1_000_000)),
            self.share_of_cpu() * 100.0,
            self.share_of_ordinary_cpu() * 100.0,
            self.run.cpu_before_ns() as f64 / 1e6,
            self.run.cpu_afterwards_ns() as f64 / 1e6,
            if self.judgement.wrong.is_empty() {
                "as it was"
            } else {
                "NOT as it was"
            },
        )
    }
}

fn text(kernel: &Kernel, seen: &[WatchResult]) -> String {
    let mut text = format!("\n{}, as `splitlock watch` has seen it\n", kernel.release);
    text += "machine   experiment                              traps passed  cut no-sleep left-queue \
             livelock CPU %  1 ns/in. before after ms\n";
    for seen in seen {
        text += &seen.row();
        for wrong in seen.judgement.wrong.iter().take(5) {
            let _ = writeln!(text, "          {wrong}");
        }
    }
    text
}
