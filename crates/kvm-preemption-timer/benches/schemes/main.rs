//! This crate against the other ways of bounding a vCPU's run, all in one process, interleaved in
//! random order, so that a noisy machine is noisy for all of them.
//!
//! `cargo bench -p kvm-preemption-timer` takes about five minutes; `-- --quick` takes a tenth.

mod alternatives;
#[path = "../../tests/common/mod.rs"]
mod common;
mod lost_kicks;
mod scheme;
mod sys;
mod table;
mod this_crate;

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

fn main() {
    // `cargo test` also runs benchmarks, to see whether they can; `cargo bench` passes --bench.
    let arguments: Vec<String> = std::env::args().collect();
    let asked = |name: &str| arguments.iter().any(|argument| argument == name);
    let extent = match (asked("--bench"), asked("--quick")) {
        (false, _) => Extent {
            cost_rounds: 2,
            overshoot_rounds: 1,
            lost_kick_runs: 1_000,
        },
        (true, true) => Extent {
            cost_rounds: 60,
            overshoot_rounds: 20,
            lost_kick_runs: 100_000,
        },
        (true, false) => Extent {
            cost_rounds: 400,
            overshoot_rounds: 150,
            lost_kick_runs: 1_000_000,
        },
    };
    if common::kvm_or_skip().is_none() {
        return;
    }
    cost_per_exit(extent.cost_rounds);
    overshoot(extent.overshoot_rounds);
    lost_kicks::compare(extent.lost_kick_runs);
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
