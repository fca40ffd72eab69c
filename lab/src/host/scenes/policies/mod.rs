//! What kernels with each change do to threads that split locks: their progress under timers, what those gain that choose
//! their timer, and how long signals wait. Each trap is held against the model of that change.

mod case;
mod measure;
mod table;

use std::collections::BTreeMap;
use std::env;
use std::sync::Mutex;

use anyhow::{Context, Result};
use serde::Serialize;
use split_lock_lab::cpu::trace;
use split_lock_model::kernel::Profile;
use split_lock_model::policy::Alternative;

use self::case::{Case, Conditions, NEIGHBOURS};
use self::measure::Measured;
use super::check::compare::compare;
use super::check::machines::MachinePlan;
use crate::host::args::PoliciesArgs;
use crate::host::kernel::BootKernel;
use crate::host::machine::bochs::{Limits, Outcome};
use crate::host::machine::lab::Lab;
use crate::host::machine::outputs::bytes;
use crate::host::machine::runner::{self, Findings, Scene};
use crate::host::output;

const LIMITS: Limits = Limits::in_seconds(600, 3600);

/// Of the layout of the JSON.
const SCHEMA: u32 = 1;

const HOW_OBTAINED: &str = "measured (CPU emulated): kernels without and with a change, on a CPU in software that detects split \
    locks; the CPU's journal, and the kernel's own trace of signals";

/// How much more than its share an attacker may seem to get, because a measurement cuts off its first and last turns. The
/// time of a turn is no measure: the work that ends it may come a tick late.
const ATTACKER_TOLERANCE: f64 = 1.2;

/// Whether all kernels do what is promised of them.
pub(crate) fn run(args: &PoliciesArgs) -> Result<bool> {
    let conditions = match args.short {
        true => Conditions::short(),
        false => Conditions::full(),
    };
    let lab = Lab::open([1, NEIGHBOURS + 1])?;
    let kernels = lab.kernels(&args.kernel)?;
    let mut boots = Vec::new();
    for kernel in &kernels {
        boots.push(Boot::new(kernel, "alone", 1, conditions.alone())?);
        let (cpus, cases) = (NEIGHBOURS + 1, conditions.beside_others());
        boots.push(Boot::new(kernel, "beside-others", cpus, cases)?);
    }
    let measured: Mutex<BTreeMap<usize, KernelResult>> = Mutex::default();
    let take = |index, result| {
        let mut measured = measured.lock().expect("nobody panics with it");
        measured.insert(index, result);
    };
    let scenes = boots.iter().enumerate();
    let scenes = scenes.map(|(index, boot)| boot.scene(move |result| take(index, result)));
    let is_fine = runner::run(&lab, scenes.collect())?;
    let results = KernelResult::merged(measured.into_inner().expect("nobody panics with it"));
    let json = lab.cache.folder("results").join(match args.short {
        true => "policies-short.json",
        false => "policies.json",
    });
    let summary = Summary {
        schema: SCHEMA,
        how_obtained: HOW_OBTAINED,
        command: format!(
            "cargo lab {}",
            env::args().skip(1).collect::<Vec<_>>().join(" ")
        ),
        kernels: &results,
    };
    output::write(&json, &serde_json::to_vec(&summary)?)?;
    print!("{}", table::tables(&results));
    println!("\neverything: {}", json.display());
    Ok(is_fine)
}

#[derive(Debug, Serialize)]
struct Summary<'a> {
    schema: u32,
    how_obtained: &'static str,
    command: String,
    kernels: &'a [KernelResult],
}

/// What was found of one kernel.
#[derive(Clone, Debug, Serialize)]
struct KernelResult {
    release: String,
    policy: Alternative,
    tried: Vec<Tried>,
    /// Held against the model.
    traps: usize,
    mismatches: usize,
}

#[derive(Clone, Debug, Serialize)]
struct Tried {
    case: Case,
    #[serde(flatten)]
    measured: Measured,
}

impl KernelResult {
    /// The boots of a kernel follow each other.
    fn merged(boots: BTreeMap<usize, Self>) -> Vec<Self> {
        let mut merged: Vec<Self> = Vec::new();
        for boot in boots.into_values() {
            match merged.last_mut() {
                Some(last) if last.release == boot.release => {
                    last.tried.extend(boot.tried);
                    last.traps += boot.traps;
                    last.mismatches += boot.mismatches;
                }
                _ => merged.push(boot),
            }
        }
        merged
    }

    fn measured(&self, is_it: impl Fn(&Case) -> bool) -> impl Iterator<Item = &Tried> {
        self.tried.iter().filter(move |tried| is_it(&tried.case))
    }
}

/// A kernel on one machine.
struct Boot<'a> {
    kernel: &'a BootKernel,
    profile: Profile,
    cases: Vec<Case>,
    /// Of each case one experiment.
    plan: MachinePlan,
}

impl<'a> Boot<'a> {
    fn new(
        kernel: &'a BootKernel,
        name: &'static str,
        cpus: u8,
        mut cases: Vec<Case>,
    ) -> Result<Self> {
        let experiments = cases.iter().map(Case::experiment);
        let plan = MachinePlan::new(name, cpus, experiments.collect()).fitted(kernel);
        let is_left = |case: &Case| plan.experiments.contains(&case.experiment());
        cases.retain(is_left);
        let release = &kernel.release;
        let profile = release.parse();
        Ok(Self {
            kernel,
            profile: profile.with_context(|| format!("the model does not know {release}"))?,
            cases,
            plan,
        })
    }

    fn scene<'s>(&'s self, take: impl FnOnce(KernelResult) + Send + 's) -> Scene<'s> {
        Scene {
            name: format!("policies-{}", self.plan.name),
            kernel: self.kernel,
            options: self.plan.options,
            boot_words: "",
            script: self.plan.script(self.kernel),
            limits: LIMITS,
            judge: Box::new(move |outcome, _folder| {
                let result = self.result(outcome)?;
                let findings = judge(&result, self.plan.name);
                take(result);
                Ok(findings)
            }),
        }
    }

    fn result(&self, outcome: &Outcome) -> Result<KernelResult> {
        let policy = self.kernel.policy();
        let report = compare(&self.profile, policy.rules(), &self.plan, outcome)?;
        let tried = self
            .cases
            .iter()
            .zip(&self.plan.experiments)
            .map(|(&case, experiment)| {
                let name = format!("{}.trace", experiment.name);
                let text = std::str::from_utf8(bytes(&outcome.bundles, &name)?)?;
                let noted = trace::parse(text).with_context(|| format!("in {name}"))?;
                let measured = Measured::of(&noted, &outcome.journal, case.round_ms())?;
                Ok(Tried { case, measured })
            });
        Ok(KernelResult {
            release: self.kernel.release.clone(),
            policy,
            tried: tried.collect::<Result<_>>()?,
            traps: report.traps(),
            mismatches: report.mismatches(),
        })
    }
}

fn judge(result: &KernelResult, machine: &str) -> Findings {
    let mut findings = Findings::new(&format!("\n{}, {machine}", result.release));
    let is_stuck = |tried: &Tried| tried.measured.worst_progress() == 0.0;
    if result.policy == Alternative::Upstream {
        let mut at_1_ms = result.measured(|case| case.is_timer_of(1));
        findings.check(
            "with a timer of 1 ms nothing gets past a split lock",
            at_1_ms.all(|tried| tried.measured.progress.iter().all(|&share| share == 0.0)),
        );
    } else {
        let mut timers = result.measured(|case| matches!(case, Case::Timer { .. }));
        findings.check(
            "with every timer, at every phase of the ticks, split locks get done",
            !timers.any(is_stuck),
        );
        let gain = table::Attack::of(result).map(|attack| attack.gain());
        findings.check(
            "nobody gets more turns by a timer",
            gain.is_none_or(|gain| gain < ATTACKER_TOLERANCE),
        );
    }
    findings.check(
        &format!("the model says the same of {} traps", result.traps),
        result.mismatches == 0,
    );
    findings
}
