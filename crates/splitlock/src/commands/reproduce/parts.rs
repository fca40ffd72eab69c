//! What is measured for a report.

use std::time::Duration;

use anyhow::Result;
use split_lock_report::figure::{Figure, FigureError};
use split_lock_report::{finding, html};
use split_lock_repro::guest::{BuiltIn, Guest, Kind, Level};
use split_lock_repro::program::{self, Timer};
use split_lock_repro::results::Sweep;
use split_lock_repro::sweep::{Host, Plan, Scenario};

use crate::guard_config;

/// A sweep of the report, with the words around it.
pub(super) struct Part {
    /// The name of its files.
    pub(super) name: &'static str,
    pub(super) heading: &'static str,
    pub(super) what: &'static str,
    pub(super) intro: &'static str,
    /// What to see in the figure.
    pub(super) see: &'static str,
    /// How the numbers were obtained.
    pub(super) how: &'static str,
    pub(super) plan: PartPlan,
    /// The name of the files with what the model says, where that is in the same figure.
    pub(super) modelled: &'static str,
    /// What it shows, in a sentence or two.
    pub(super) finding: fn(&Sweep) -> Option<String>,
    /// Of the sweep, and of those that belong into the same figure.
    pub(super) figure: fn(&[Sweep]) -> Result<Figure, FigureError>,
    pub(super) table: fn(&Sweep) -> html::Table,
}

pub(super) enum PartPlan {
    Guests(Plan),
    Programs(program::Plan),
}

impl PartPlan {
    /// Checks it, with this pause before each run.
    pub(super) fn settle(&mut self, pause: Duration) -> Result<()> {
        match self {
            PartPlan::Guests(plan) => {
                plan.settle = pause;
                Ok(plan.check()?)
            }
            PartPlan::Programs(plan) => {
                plan.settle = pause;
                Ok(plan.check()?)
            }
        }
    }
}

const MEASURED: &str = "Measured on this host as it is.";

/// Where the timeouts of the main figure lie.
pub(super) fn timeouts() -> Vec<Duration> {
    (1..=49).map(Duration::from_millis).collect()
}

fn built_in(kind: Kind, offset: Option<u8>) -> Guest {
    BuiltIn::new(kind, offset)
        .expect("these kinds take these offsets")
        .into()
}

fn scenario(kinds: &[Kind]) -> Scenario {
    Scenario {
        guests: kinds.iter().map(|&kind| built_in(kind, None)).collect(),
        level: Level::Cpl3,
        host: Host::Native,
        guard: None,
    }
}

fn plan(scenarios: Vec<Scenario>, timeouts: Vec<Duration>, repeats: u32, seed: u64) -> PartPlan {
    PartPlan::Guests(Plan {
        scenarios,
        timeouts,
        repeats,
        warm_up_runs: 3,
        settle: Duration::ZERO,
        seed,
    })
}

/// The same on a host that punishes it, unless that is where it is: without help, and with a guard that never lets a
/// run be longer than its timeout.
fn punished_and_guarded(scenario: &Scenario, punishing: &Host) -> Vec<Scenario> {
    let punished = Scenario {
        host: punishing.clone(),
        ..scenario.clone()
    };
    let guarded = Scenario {
        guard: Some(guard_config::within_deadlines()),
        ..punished.clone()
    };
    match punished.host == scenario.host {
        true => vec![guarded],
        false => vec![punished, guarded],
    }
}

/// How the numbers of parts that show punishment are obtained.
pub(super) fn how(punishing: Option<&Host>) -> &'static str {
    match punishing {
        Some(Host::Emulated(_)) => "Measured on this host: as it is, and with the trap emulated.",
        Some(Host::Native) | None => MEASURED,
    }
}

/// On this host as it is, and on one that punishes split locks, if there is one.
pub(super) fn progress(repeats: u32, seed: u64, punishing: Option<&Host>) -> Part {
    let mut scenarios = vec![scenario(&[Kind::Split]), scenario(&[Kind::Aligned])];
    if let Some(host) = punishing {
        scenarios.extend(punished_and_guarded(&scenarios[0], host));
    }
    Part {
        name: "progress",
        heading: "Progress against the pending timeout",
        what: "progress",
        intro: "Each run is one bounded run of the vCPU: it starts at the guest's first \
                  instruction and ends when the pending timeout expires. Where the trap is emulated, \
                  the guest's split lock raises a real exception, and the vCPU's thread is then \
                  treated as that kernel treats it: it really sleeps, a real signal ends the sleep, \
                  and the exception is really off for as long as detection would be. Where there is a \
                  guard, it looks at the vCPU after every run that used hardly any CPU time, and does \
                  the instruction in the CPU's place if it is a split lock; no run is made longer than its \
                  timeout for that. What the guard has learnt it keeps from run to run, as in a VMM.",
        see: "To see: up to the length of the sleep a punished guest makes no turn at all, however often it is run; the guarded one always makes some.",
        how: how(punishing),
        modelled: "modelled",
        finding: finding::of_overlap,
        plan: plan(scenarios, timeouts(), repeats, seed),
        figure: Figure::progress,
        table: html::timeouts_table,
    }
}

/// A guest that splits a lock now and then, which is the usual case: each may cost it a whole
/// punishment.
pub(super) fn sparse(repeats: u32, seed: u64, punishing: &Host) -> Part {
    let work = Duration::from_millis(1);
    let mut scenarios = vec![Scenario {
        level: Level::Cpl0,
        ..scenario(&[Kind::Sparse { work }])
    }];
    scenarios.extend(punished_and_guarded(&scenarios[0], punishing));
    Part {
        name: "sparse",
        heading: "One split lock a millisecond",
        what: "sparse split locks",
        intro: "A guest that works for a millisecond between two split locks, in registers. What \
                  it works is counted, and not timed: a thread that the kernel makes sleep does \
                  not work. It runs at CPL0, where breakpoints also stop it on a KVM without hardware \
                  virtualization: the guard watches the instruction after it has met it once, and from then on each \
                  split lock costs one exit, and no sleep.",
        see: "To see: punished, the guest spends most of its time asleep; with the guard it gets nearly as far as undisturbed.",
        how: how(Some(punishing)),
        modelled: "modelled",
        finding: finding::of_overlap,
        plan: plan(scenarios, timeouts(), repeats, seed),
        figure: Figure::progress,
        table: html::timeouts_table,
    }
}

pub(super) fn offsets(seed: u64) -> Part {
    let at = |offset| Scenario {
        guests: vec![built_in(Kind::Split, Some(offset))],
        ..scenario(&[])
    };
    Part {
        name: "offsets",
        heading: "Where the split begins",
        what: "offsets of the operand",
        intro: "The same loop with its 8-byte operand at every offset of a 64-byte cache line. From \
                  offset 57 on the operand lies in two lines, and the CPU locks the bus.",
        see: "To see: one step, at offset 57, from where on each turn takes a hundred times longer and more.",
        how: MEASURED,
        modelled: "modelled",
        finding: finding::of_overlap,
        plan: plan(
            (0..64).map(at).collect(),
            vec![Duration::from_millis(10)],
            5,
            seed,
        ),
        figure: |sweeps| Figure::offsets(&sweeps[0]),
        table: html::offsets_table,
    }
}

/// Programs whose timer counts time, and CPU time.
pub(super) fn programs(seed: u64, punishing: &Host) -> Part {
    Part {
        name: "programs",
        heading: "Programs with timers",
        what: "programs with timers",
        intro: "An ordinary program splits a lock in a loop while a timer of its own sends it signals: setitimer, which counts \
                time, and timer_create on the thread's CPU time. Where the trap is emulated, the split lock raises a real \
                exception, which arrives as SIGBUS, and the thread is then treated as that kernel treats it.",
        see: "To see: below the length of the sleep the program whose timer counts time stands still; with CPU time it never does, which does not pass while a thread sleeps.",
        how: match punishing {
            Host::Native => MEASURED,
            Host::Emulated(_) => "Measured with the trap emulated.",
        },
        modelled: "programs-modelled",
        finding: |sweep| Some(finding::of_programs(sweep)),
        plan: PartPlan::Programs(program::Plan {
            timers: vec![Timer::ItimerReal, Timer::ThreadCpu],
            periods: (1..=49).step_by(2).map(Duration::from_millis).collect(),
            length: Duration::from_millis(80),
            repeats: 3,
            host: punishing.clone(),
            settle: Duration::ZERO,
            seed,
        }),
        figure: Figure::programs,
        table: html::programs_table,
    }
}

/// Each bystander alone, beside a neighbour that locks without splitting, which costs what any busy
/// neighbour costs, and beside one that splits.
pub(super) fn neighbours(seed: u64) -> Part {
    let bystanders = [Kind::Aligned, Kind::None];
    let conditions = |kind: Kind| {
        [
            scenario(&[kind]),
            scenario(&[kind, Kind::Aligned]),
            scenario(&[kind, Kind::Split]),
        ]
    };
    let scenarios = bystanders.into_iter().flat_map(conditions);
    Part {
        name: "neighbours",
        heading: "What a neighbour loses",
        what: "neighbours",
        intro: "A bystander on another vCPU, which touches no memory of the splitting guest: alone, \
                  beside a guest that locks without splitting, and beside one that splits. What it \
                  loses beside the first is the price of any busy neighbour here (a shared core, a \
                  shared clock); what it loses beyond that is the price of bus locks. Progress is counted per second \
                  of CPU time, so that other work on this machine does not count.",
        see: "To see: what a bystander loses beside the splitting guest, and not beside the other, is the price of bus locks.",
        how: MEASURED,
        modelled: "modelled",
        finding: finding::of_overlap,
        plan: plan(
            scenarios.collect(),
            vec![Duration::from_millis(20)],
            25,
            seed,
        ),
        figure: |sweeps| Figure::bystander(&sweeps[0]),
        table: html::timeouts_table,
    }
}
