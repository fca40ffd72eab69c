//! From bundles to a verdict.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use split_lock_lab::bundle::Bundles;
use split_lock_lab::journal::{self, State};
use split_lock_lab::plan::{Experiment, Workload};
use split_lock_lab::replay::{Machine, Mismatch, Report, Ticks, TrapRow, Verdict, replay};
use split_lock_model::analysis::Thresholds;
use split_lock_model::kernel::Profile;
use split_lock_model::machine::Topology;
use split_lock_model::time::Nanos;

use super::lab::bytes;
use super::machine::Shape;

/// One experiment, held against the model.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) experiment: Experiment,
    pub(crate) state: State,
    pub(crate) report: Report,
    /// Of an experiment with one trap at a time.
    pub(crate) thresholds: Option<MeasuredThresholds>,
}

/// From which timeout on traps got past their sleep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct MeasuredThresholds {
    /// The longest timeout up to which none did.
    pub(crate) never_up_to_us: Option<u64>,
    /// The shortest from which all did.
    pub(crate) always_from_us: Option<u64>,
    /// Traps whose fate followed from the phase of the ticks and the moment of the signal.
    pub(crate) foretold: u64,
    /// Traps with a tick so close to either that both fates were possible.
    pub(crate) too_close: u64,
}

impl Comparison {
    /// Whether the thresholds found lie within one step of those predicted.
    pub(crate) fn finds(&self, limits: Option<&Thresholds>) -> bool {
        let (Some(found), Some(limits), Workload::Single { timeouts_us, .. }) =
            (&self.thresholds, limits, &self.experiment.workload)
        else {
            return true;
        };
        let step = timeouts_us.windows(2).map(|pair| pair[1] - pair[0]).max();
        let is_near = |found: Option<u64>, predicted: Nanos| {
            found
                .zip(step)
                .is_some_and(|(found, step)| found.abs_diff(predicted.0 / 1000) <= step)
        };
        is_near(found.never_up_to_us, limits.never_up_to())
            && is_near(found.always_from_us, limits.always_from())
    }
}

pub(crate) fn compare(
    profile: &Profile,
    shape: Shape,
    experiment: &Experiment,
    bundles: &Bundles,
) -> Result<Comparison> {
    let part = |part: &str| bytes(bundles, &format!("{}.{part}", experiment.name));
    let state: State = serde_json::from_slice(part("state")?)?;
    if state.lost > 0 {
        bail!(
            "{}: {} events found the journal full",
            experiment.name,
            state.lost
        );
    }
    if state.hz != profile.hz().get() {
        bail!(
            "the kernel ticks {} times a second, and {profile} does not: say hz={0} in its profile",
            state.hz
        );
    }
    let journal = journal::parse(part("journal")?)?;
    let profile = if experiment.mitigate {
        profile.clone()
    } else {
        profile.with_mitigate(false)?
    };
    let ticks = Ticks::new(&state)?;
    let machine = Machine {
        topology: Topology::new(shape.cpus(), 1)?,
        ticks,
    };
    let mut report = replay(&profile, experiment.policy.rules(), &machine, &journal);
    let thresholds = match &experiment.workload {
        Workload::Single {
            timeouts_us,
            phases,
        } => Some(predict(
            &profile,
            &ticks,
            timeouts_us,
            *phases,
            &mut report,
        )?),
        Workload::Loop { .. } => None,
    };
    Ok(Comparison {
        experiment: experiment.clone(),
        state,
        report,
        thresholds,
    })
}

/// Each trap's fate from nothing but its moment, its signal's, and the phase of the ticks.
fn predict(
    profile: &Profile,
    ticks: &Ticks,
    timeouts_us: &[u64],
    phases: u32,
    report: &mut Report,
) -> Result<MeasuredThresholds> {
    let limits = Thresholds::of(profile).context("this kernel does not sleep")?;
    let mut found = MeasuredThresholds::default();
    // By timeout: how many passed, and of how many.
    let mut passed: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for trap in &report.traps {
        // The first trap of a vCPU is slow; it is made before the first mark, and only compared.
        let Some(number) = trap.mark else { continue };
        let timeout = timeouts_us[number as usize / phases as usize];
        let has_passed = trap.verdict == Verdict::Passed;
        let count = passed.entry(timeout).or_default();
        count.0 += u32::from(has_passed);
        count.1 += 1;
        match predicted_pass(&limits, ticks, trap) {
            Some(passes) if passes == has_passed => found.foretold += 1,
            Some(_) => wrong.push(Mismatch {
                ns: trap.ns,
                pid: trap.pid,
                what: format!(
                    "{:?} with a signal after {:?} ns; the phase of the ticks says otherwise",
                    trap.verdict, trap.signal_after_ns
                ),
            }),
            None => found.too_close += 1,
        }
    }
    let judged = found.foretold + found.too_close + wrong.len() as u64;
    if judged != timeouts_us.len() as u64 * u64::from(phases) || found.too_close * 20 > judged {
        bail!(
            "of {} timeouts at {phases} phases each {judged} traps can be judged, and {} of them are too close to a tick",
            timeouts_us.len(),
            found.too_close
        );
    }
    report.mismatches.extend(wrong);
    found.never_up_to_us = end_of_run(passed.iter(), |&(passed, _)| passed == 0);
    found.always_from_us = end_of_run(passed.iter().rev(), |&(passed, of)| passed == of);
    Ok(found)
}

/// The last timeout before the first that is otherwise.
fn end_of_run<'a>(
    counts: impl Iterator<Item = (&'a u64, &'a (u32, u32))>,
    belongs: impl Fn(&(u32, u32)) -> bool,
) -> Option<u64> {
    let run = counts.take_while(|(_, count)| belongs(count));
    run.last().map(|(&timeout, _)| timeout)
}

/// Whether a trap gets past its sleep. The kernel reads the ticks once between the trap and the note of the sleep's timer,
/// and again between the signal and the note of the sleep's end. `None`: a tick came just there, so both fates are
/// possible.
fn predicted_pass(limits: &Thresholds, ticks: &Ticks, trap: &TrapRow) -> Option<bool> {
    let Some(signal) = trap.signal_after_ns else {
        // The handler was done before the signal was due.
        return Some(true);
    };
    let passes = |begin: u64, end: u64| {
        let period = Nanos(end.saturating_sub(begin));
        limits.passes(ticks.clock(), Nanos(trap.ns + begin), period)
    };
    let asleep = trap.asleep_after_ns.unwrap_or_default();
    let awake = trap.awake_after_ns.unwrap_or_default();
    let shortest = passes(asleep, signal);
    let longest = passes(0, signal.max(awake));
    (shortest == longest).then_some(shortest)
}
