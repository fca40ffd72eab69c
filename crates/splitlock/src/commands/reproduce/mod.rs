//! `splitlock reproduce`: the phenomenon on this host, as figures, data and one page.

use anyhow::Result;
use split_lock_host::Facts;
use split_lock_report::finding;
use split_lock_repro::sweep::Host;
use split_lock_repro::vm::VmError;

use crate::args::measure::ReproduceArgs;
use crate::error::{error_chain, print_note, print_to_stderr};
use crate::exit::Exit;
use crate::measuring::{KvmSession, seed, usable_cpus};
use crate::output::OutputFolder;

mod kernel;
mod parts;
mod report;
mod tasks;

use kernel::{Kernel, punishing_host};
use parts::{Part, PartPlan, neighbours, offsets, programs, progress, sparse};
use report::{Chapter, Found, write};
use tasks::Tasks;

/// Everything that a report consists of, and nothing else may be lost when it is replaced.
const FILES: &[&str] = &[
    "report.html",
    "progress.csv",
    "progress.json",
    "progress.png",
    "progress.svg",
    "offsets.csv",
    "offsets.json",
    "offsets.png",
    "offsets.svg",
    "programs.csv",
    "programs.json",
    "programs.png",
    "programs.svg",
    "programs-modelled.csv",
    "programs-modelled.json",
    "neighbours.csv",
    "neighbours.json",
    "neighbours.png",
    "neighbours.svg",
    "modelled.csv",
    "modelled.json",
    "sparse.csv",
    "sparse.json",
    "sparse.png",
    "sparse.svg",
    "tasks.csv",
    "tasks.png",
    "tasks.svg",
    "timeline.png",
    "timeline.svg",
];

pub(crate) fn run(args: &ReproduceArgs) -> Result<Exit> {
    let folder = OutputFolder::prepare(&args.out, FILES)?;
    let seed = seed(args.seed);
    match KvmSession::begin(&args.kvm) {
        Ok(session) => measured(folder, &session, args, seed),
        Err(error) if is_without_kvm(&error) => {
            let why = error_chain(&error);
            print_note(&format!("{why}; everything here is modelled"));
            modelled_only(folder, args, seed)
        }
        Err(error) => Err(error),
    }
}

fn is_without_kvm(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(VmError::Open(_)))
}

/// What this host does, and beside it what its kernel would do.
fn measured(
    folder: OutputFolder,
    session: &KvmSession,
    args: &ReproduceArgs,
    seed: u64,
) -> Result<Exit> {
    let repeats = args.repeat;
    let punishing = punishing_host(&session.facts);
    let mut parts = vec![progress(repeats, seed, punishing.as_ref())];
    parts.extend(punishing.as_ref().map(|host| sparse(repeats, seed, host)));
    parts.extend(punishing.as_ref().map(|host| programs(seed, host)));
    parts.push(offsets(seed));
    if usable_cpus() > 1 {
        parts.push(neighbours(seed));
    }
    for part in &mut parts {
        part.plan.settle(session.settle())?;
    }
    let (mut chapters, mut missing) = measure(session, parts)?;
    if let Some(first) = chapters.first() {
        // A kernel that the model cannot place has no other side to show.
        let kernel = Kernel::of_this_host(&session.facts, Some(&first.sweeps[0])).ok();
        if let Some(kernel) = &kernel {
            let other_side = kernel.other_side(&session.facts, repeats, seed)?;
            chapters[0].add_modelled(other_side)?;
            add_modelled_programs(&mut chapters, kernel, &session.facts)?;
        }
        let first = &chapters[0];
        let findings = finding::of_progress(&first.sweeps[0]);
        let tasks = punishing.and_then(|host| play(session, &host, &mut missing));
        let found = Found {
            findings,
            chapters: &chapters,
            kernel: kernel.as_ref(),
            tasks: tasks.as_ref().map(|tasks| {
                let detection = session.facts.detection().to_string();
                (tasks, tasks.figure(detection))
            }),
            missing: &missing,
            with_png: !args.no_png,
        };
        write(folder, &found)?;
    }
    if session.was_stopped() {
        print_to_stderr("stopped before everything was measured");
        return Ok(Exit::Stopped);
    }
    Ok(Exit::Fine)
}

/// Beside programs that were measured, what the model says of them.
fn add_modelled_programs(chapters: &mut [Chapter], kernel: &Kernel, facts: &Facts) -> Result<()> {
    for chapter in chapters {
        if let PartPlan::Programs(plan) = chapter.plan() {
            let modelled = kernel.programs(facts, plan)?;
            chapter.add_modelled(modelled)?;
        }
    }
    Ok(())
}

/// Everything that can be measured. What fails after the first part is missing then, and no reason to
/// throw away what there is.
fn measure(session: &KvmSession, parts: Vec<Part>) -> Result<(Vec<Chapter>, Vec<String>)> {
    let mut chapters: Vec<Chapter> = vec![];
    let mut missing = vec![];
    for part in parts {
        if session.was_stopped() {
            missing.push(stopped_before(part.heading));
            continue;
        }
        let measured = match &part.plan {
            PartPlan::Guests(plan) => session.measure(part.what, plan, &mut |_, _| {}),
            PartPlan::Programs(plan) => session.measure_programs(part.what, plan),
        };
        match measured {
            Ok(Some(sweep)) => chapters.push(Chapter::new(part, sweep)?),
            Ok(None) => missing.push(stopped_before(part.heading)),
            Err(error) if !chapters.is_empty() => missing.push(failed(part.heading, &error)),
            Err(error) => return Err(error),
        }
    }
    Ok((chapters, missing))
}

fn play(session: &KvmSession, punishing: &Host, missing: &mut Vec<String>) -> Option<Tasks> {
    if session.was_stopped() {
        missing.push(stopped_before(tasks::HEADING));
        return None;
    }
    let played = Tasks::play(session, punishing);
    match &played {
        Ok(Some(_)) => {}
        Ok(None) => missing.push(stopped_before(tasks::HEADING)),
        Err(error) => missing.push(failed(tasks::HEADING, error)),
    }
    played.ok().flatten()
}

fn stopped_before(heading: &str) -> String {
    format!("{heading}: stopped before this was measured.")
}

/// Said at once, and in the report.
fn failed(heading: &str, error: &anyhow::Error) -> String {
    let why = format!("{heading}: {}.", error_chain(error));
    print_note(&why);
    why
}

fn modelled_only(folder: OutputFolder, args: &ReproduceArgs, seed: u64) -> Result<Exit> {
    let repeats = args.repeat;
    let facts = Facts::live()?;
    let kernel = Kernel::of_this_host(&facts, None)?;
    let part = Part {
        intro: "No guest has run: every number follows from the kernel's rules and from stated \
                costs of the hardware.",
        how: "Modelled.",
        ..progress(repeats, seed, None)
    };
    let chapter = Chapter::new(part, kernel.both_sides(&facts, repeats, seed)?)?;
    let finding = "Nothing was measured: there is no KVM to be used here.";
    let found = Found {
        findings: vec![finding.into()],
        chapters: &[chapter],
        kernel: Some(&kernel),
        tasks: None,
        missing: &[],
        with_png: !args.no_png,
    };
    write(folder, &found)?;
    Ok(Exit::Fine)
}
