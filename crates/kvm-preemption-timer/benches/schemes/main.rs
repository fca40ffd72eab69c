//! This crate against the other ways of bounding a vCPU's run, all in one process, interleaved in
//! random order, so that a noisy machine is noisy for all of them.
//!
//! `cargo bench -p kvm-preemption-timer` takes about nine minutes; `-- --quick` takes one.

mod alternatives;
#[path = "../../tests/common/mod.rs"]
mod common;
mod lost_kicks;
mod scheme;
mod sys;
mod table;
mod this_crate;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::{OUT_LOOP, SPIN, TestVm, vm};
use indicatif::{ProgressBar, ProgressStyle};
use kvm_preemption_timer::Mechanism;
use split_lock_model::random::SplitMix64;

use crate::alternatives::{Bare, EmptyHandler, Gem5, Reference, TimerThread};
use crate::scheme::{RunEnd, Scheme};
use crate::table::{Distribution, print_costs, print_overshoots};
use crate::this_crate::ThisCrate;

const BUDGETS_US: [u64; 6] = [20, 50, 100, 500, 1_000, 10_000];

/// How much is measured.
struct Extent {
    cost_rounds: usize,
    overshoot_rounds: usize,
    lost_kick_runs: u64,
}

const HELP: &str = "\
Compares kvm-preemption-timer with other ways of bounding a vCPU's run: the cost of a guest exit, how
late a run ends, and how many runs their signal does not end.

Usage: cargo bench -p kvm-preemption-timer -- [--quick]

  --quick  about a minute instead of nine
  --help   this text
";

fn main() -> ExitCode {
    let (mut is_bench, mut is_quick) = (false, false);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--bench" => is_bench = true,
            "--quick" => is_quick = true,
            "--help" | "-h" => {
                print!("{HELP}");
                return ExitCode::SUCCESS;
            }
            other => {
                eprintln!("unknown argument `{other}`: use --quick or --help");
                return ExitCode::from(2);
            }
        }
    }
    // `cargo test` also runs benchmarks, to see whether they can; `cargo bench` passes --bench.
    let extent = match (is_bench, is_quick) {
        (false, _) => Extent {
            cost_rounds: 2,
            overshoot_rounds: 1,
            lost_kick_runs: 1_000,
        },
        (true, true) => Extent {
            cost_rounds: 60,
            overshoot_rounds: 20,
            lost_kick_runs: 80_000,
        },
        (true, false) => Extent {
            cost_rounds: 400,
            overshoot_rounds: 150,
            lost_kick_runs: 1_000_000,
        },
    };
    if common::kvm_or_skip().is_some() {
        cost_per_exit(extent.cost_rounds);
        overshoot(extent.overshoot_rounds);
        lost_kicks::compare(extent.lost_kick_runs);
    }
    ExitCode::SUCCESS
}

/// What one guest exit costs while the budget is far from its end.
fn cost_per_exit(rounds: usize) {
    const EXITS: u32 = 500;
    let (_vm, mut schemes) = all_schemes(OUT_LOOP, true);
    let mut costs = vec![vec![]; schemes.len()];
    let mut random = SplitMix64::new(1);
    let progress = progress("cost per exit", rounds as u64);
    for _ in 0..rounds {
        for i in shuffled(schemes.len(), &mut random) {
            let scheme = &mut schemes[i];
            scheme.begin(Duration::from_secs(3600));
            let start = Instant::now();
            for _ in 0..EXITS {
                assert!(matches!(scheme.enter(), RunEnd::Exit), "{}", scheme.name());
            }
            costs[i].push(start.elapsed().as_nanos() as f64 / f64::from(EXITS));
            scheme.end();
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    print_costs(&names(&schemes), &costs);
}

/// How late a run ends that the guest does not end.
fn overshoot(rounds: usize) {
    const RUNS: usize = 20;
    let (_vm, mut schemes) = all_schemes(SPIN, false);
    let mut late_us = vec![vec![vec![]; schemes.len()]; BUDGETS_US.len()];
    let mut random = SplitMix64::new(2);
    let progress = progress("overshoot", (rounds * BUDGETS_US.len()) as u64);
    for _ in 0..rounds {
        for (budget_us, late_us) in BUDGETS_US.iter().zip(&mut late_us) {
            for i in shuffled(schemes.len(), &mut random) {
                // Short budgets are measured more often than long ones.
                for _ in 0..(RUNS as u64 * 500 / budget_us).clamp(2, RUNS as u64) {
                    let late = scheme::overshoot(&mut *schemes[i], *budget_us);
                    late_us[i].push(late.as_nanos() as f64 / 1e3);
                }
            }
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    let distributions = late_us
        .into_iter()
        .map(|of_budget| of_budget.into_iter().map(Distribution::of).collect());
    print_overshoots(
        &names(&schemes),
        &BUDGETS_US,
        &distributions.collect::<Vec<_>>(),
    );
}

/// A scheme for each vCPU, each with a signal of its own. Bare KVM_RUN never comes back from a guest
/// without exits, so it can be left out.
fn all_schemes(code: &[u8], with_bare: bool) -> (TestVm, Vec<Box<dyn Scheme>>) {
    let (vm, mut vcpus) = vm(code, 7).expect("KVM was there a moment ago");
    let mut next = || vcpus.pop().expect("one vCPU for each scheme");
    let mut schemes: Vec<Box<dyn Scheme>> = vec![
        Box::new(ThisCrate::new(next(), Mechanism::MaskedSignal, 1)),
        Box::new(ThisCrate::new(next(), Mechanism::ImmediateExit, 2)),
        Box::new(Reference::new(next(), 3)),
        Box::new(Gem5::new(next(), 4)),
        Box::new(EmptyHandler::new(next(), 5)),
        Box::new(TimerThread::new(next(), 6)),
    ];
    if with_bare {
        schemes.insert(0, Box::new(Bare::new(next())));
    }
    (vm, schemes)
}

fn names(schemes: &[Box<dyn Scheme>]) -> Vec<&'static str> {
    schemes.iter().map(|scheme| scheme.name()).collect()
}

fn shuffled(count: usize, random: &mut SplitMix64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        order.swap(i, random.below(i as u64 + 1) as usize);
    }
    order
}

/// Shown on a terminal only.
fn progress(what: &'static str, steps: u64) -> ProgressBar {
    let style = "{msg:16} {wide_bar} {percent}% {eta} left";
    let style = ProgressStyle::with_template(style).expect("a template of ours");
    ProgressBar::new(steps).with_style(style).with_message(what)
}
