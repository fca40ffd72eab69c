//! From what a machine has sent to a verdict.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use split_lock_lab::cpu::join::join;
use split_lock_lab::cpu::trace::{self, Noted, What};
use split_lock_lab::journal::Kind;
use split_lock_lab::plan::{self, Experiment, Workload};
use split_lock_lab::replay::{Machine, Mismatch, Report, Ticks, TrapRow, Verdict, replay};
use split_lock_model::analysis::Thresholds;
use split_lock_model::handler::{Rules, TrapOrigin};
use split_lock_model::kernel::Profile;
use split_lock_model::machine::Topology;
use split_lock_model::time::Nanos;

use super::machines::MachinePlan;
use crate::host::machine::bochs::Outcome;
use crate::host::machine::outputs::bytes;

/// One experiment, held against the model.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(super) experiment: Experiment,
    pub(super) outcome: plan::Outcome,
    /// Split locks that the CPU let through.
    pub(super) let_through: u64,
    pub(super) report: Report,
    /// What has to be otherwise, beside the mismatches of the report.
    pub(super) wrong: Vec<String>,
    /// Of an experiment with one trap at a time.
    pub(super) thresholds: Option<MeasuredThresholds>,
}

/// From which timeout on traps got past their sleep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct MeasuredThresholds {
    /// The longest timeout up to which none did.
    pub(super) never_up_to_us: Option<u64>,
    /// The shortest from which all did.
    pub(super) always_from_us: Option<u64>,
    /// What both are by the kernel's rules.
    pub(super) predicted: (Nanos, Nanos),
    /// Traps whose fate followed from the phase of the ticks and the moment of the signal.
    pub(super) foretold: u64,
    /// Traps with a tick so close to either that both fates were possible.
    pub(super) too_close: u64,
}

/// A boot, held against the model.
#[derive(Debug, Serialize)]
pub(crate) struct MachineReport {
    pub(super) name: &'static str,
    /// The kernel, as it was booted, with the tick rate that was seen.
    pub(super) profile: String,
    pub(super) experiments: Vec<Comparison>,
    pub(super) wrong: Vec<String>,
}

impl MachineReport {
    pub(crate) fn traps(&self) -> usize {
        let compared = self.experiments.iter();
        compared.map(|compared| compared.report.traps.len()).sum()
    }

    /// All disagreements.
    pub(crate) fn mismatches(&self) -> usize {
        let compared = self.experiments.iter();
        let mismatches =
            |compared: &Comparison| compared.report.mismatches.len() + compared.wrong.len();
        self.wrong.len() + compared.map(mismatches).sum::<usize>()
    }
}

/// `kernel` is what the model says of it, whatever its tick rate, and `rules` what it does about signals.
pub(crate) fn compare(
    kernel: &Profile,
    rules: Rules,
    plan: &MachinePlan,
    outcome: &Outcome,
) -> Result<MachineReport> {
    let traces = plan.experiments.iter().map(|experiment| {
        let name = format!("{}.trace", experiment.name);
        let text = std::str::from_utf8(bytes(&outcome.bundles, &name)?)?;
        trace::parse(text).with_context(|| format!("in {name}"))
    });
    let traces = traces.collect::<Result<Vec<_>>>()?;
    let is_tick = |noted: &&Noted| noted.what == What::Event(Kind::Tick);
    let ticks = traces.iter().flatten().filter(is_tick);
    let counts: Vec<(u64, u64)> = ticks
        .filter_map(|noted| Some((outcome.journal.nanos(noted.tick), noted.jiffies?)))
        .collect();
    let ticks = Ticks::counted(&counts)?;
    let options = &plan.options;
    let machine = Machine {
        hardware: plan.hardware(),
        topology: Topology::new(options.cpus.into(), options.threads_per_core.into())?,
        ticks,
    };
    let profile = plan.profile(kernel)?.with_hz(ticks.clock().hz());
    let mut report = MachineReport {
        name: plan.name,
        profile: profile.to_string(),
        experiments: Vec::new(),
        wrong: Vec::new(),
    };
    let mut joined_traps = 0;
    for (experiment, noted) in plan.experiments.iter().zip(&traces) {
        let compared = Comparison::new(&profile, rules, &machine, experiment, noted, outcome);
        let compared = compared.with_context(|| experiment.name.clone())?;
        joined_traps += compared.report.traps.len();
        report.experiments.push(compared);
    }
    let raised = outcome.journal.alignment_checks().count();
    if raised != joined_traps {
        let what = format!(
            "the CPU raised #AC {raised} times in all, in the experiments {joined_traps} times"
        );
        report.wrong.push(what);
    }
    report.compare_log(outcome)?;
    Ok(report)
}

impl MachineReport {
    /// What the kernel says in its log is what it did.
    fn compare_log(&mut self, outcome: &Outcome) -> Result<()> {
        let log = bytes(&outcome.bundles, split_lock_lab::cpu::script::KERNEL_LOG)?;
        let logged = trace::logged_addresses(&String::from_utf8_lossy(log));
        let events = outcome.journal.events.iter();
        let trapped: std::collections::BTreeSet<u64> = events.map(|event| event.rip).collect();
        let unknown = logged.iter().filter(|address| !trapped.contains(address));
        for address in unknown {
            self.wrong.push(format!(
                "the kernel logged a trap at {address:#x} that the CPU does not have"
            ));
        }
        Ok(())
    }
}

impl Comparison {
    fn new(
        profile: &Profile,
        rules: Rules,
        machine: &Machine,
        experiment: &Experiment,
        noted: &[Noted],
        outcome: &Outcome,
    ) -> Result<Self> {
        let name = format!("{}.outcome", experiment.name);
        let said: plan::Outcome = serde_json::from_slice(bytes(&outcome.bundles, &name)?)?;
        ensure!(
            said.lost_events == 0 && said.missed_probes == 0,
            "{} events found the trace buffer full and {} calls were missed by their probes",
            said.lost_events,
            said.missed_probes
        );
        let profile = match experiment.mitigate {
            true => profile.clone(),
            false => profile.with_mitigate(false)?,
        };
        let joined = join(noted, &outcome.journal, &machine.ticks)?;
        let mut report = replay(&profile, rules, machine, &joined.events);
        let thresholds = match &experiment.workload {
            Workload::Single {
                timeouts_us,
                phases,
            } => Some(predict(
                &profile,
                &machine.ticks,
                timeouts_us,
                *phases,
                &mut report,
            )?),
            Workload::Loop { .. } => None,
        };
        let mut compared = Self {
            experiment: experiment.clone(),
            outcome: said,
            let_through: joined.bus_locks,
            report,
            wrong: Vec::new(),
            thresholds,
        };
        compared.compare_counts(&profile, machine);
        if !compared.finds_thresholds() {
            let what = "the thresholds found are not those predicted".to_owned();
            compared.wrong.push(what);
        }
        Ok(compared)
    }

    /// What the threads have seen, against the CPU and the model.
    fn compare_counts(&mut self, profile: &Profile, machine: &Machine) {
        let Self {
            experiment,
            outcome,
            let_through,
            report,
            ..
        } = &*self;
        let traps = report.traps.len() as u64;
        let sigbus = report.count(Verdict::Sigbus) as u64;
        let is_guest = experiment.origin == TrapOrigin::Guest;
        let threads = match &experiment.workload {
            Workload::Single { .. } => 1,
            Workload::Loop { threads, .. } => threads.len() as u64,
        };
        // A guest's last one may be done when a signal keeps it from its exit.
        let unseen = if is_guest { threads } else { 0 };
        let is_seen = (outcome.completed..=outcome.completed + unseen).contains(let_through);
        let traps_bus_locks = profile.arms_bus_lock(machine.hardware) && !is_guest;
        let checks = [
            (
                "the CPU let as many split locks through as were completed",
                is_seen,
            ),
            (
                "split locks trap if, and only if, the kernel has switched that on",
                (traps > 0) == profile.arms_split_lock(machine.hardware),
            ),
            (
                "each bus lock of a program traps if the kernel has switched that on, and none otherwise",
                report.bus_locks == if traps_bus_locks { *let_through } else { 0 },
            ),
            (
                "each thread gets SIGBUS as often as the model says",
                outcome.sigbus == sigbus,
            ),
            (
                "KVM_RUN ends with KVM_EXIT_EXCEPTION for each SIGBUS",
                outcome.exceptions == if is_guest { sigbus } else { 0 },
            ),
            (
                "something was there to compare",
                traps + report.bus_locks + let_through > 0,
            ),
        ];
        let counts = format!(
            "{traps} traps, {let_through} let through, {} #DB, {outcome:?}",
            report.bus_locks
        );
        let wrong = checks.iter().filter(|(_, is_so)| !is_so);
        self.wrong = wrong
            .map(|(what, _)| format!("not so: {what} ({counts})"))
            .collect();
    }

    /// Whether the thresholds found lie within one step of those predicted.
    fn finds_thresholds(&self) -> bool {
        let (Some(found), Workload::Single { timeouts_us, .. }) =
            (&self.thresholds, &self.experiment.workload)
        else {
            return true;
        };
        let step = timeouts_us.windows(2).map(|pair| pair[1] - pair[0]).max();
        // Where the shortest timeout tried passes now and then, there is none up to which none does.
        let is_near = |found: Option<u64>, predicted: Nanos| {
            let apart = found.unwrap_or(0).abs_diff(predicted.0 / 1000);
            step.is_some_and(|step| apart <= step)
        };
        let (never_up_to, always_from) = found.predicted;
        is_near(found.never_up_to_us, never_up_to) && is_near(found.always_from_us, always_from)
    }
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
    let mut found = MeasuredThresholds {
        predicted: (limits.never_up_to(), limits.always_from()),
        ..MeasuredThresholds::default()
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(found: MeasuredThresholds) -> Comparison {
        let timeouts_us = vec![1_000, 2_000, 3_000];
        Comparison {
            experiment: Experiment {
                name: "timeouts".to_owned(),
                mitigate: true,
                origin: TrapOrigin::User,
                workload: Workload::Single {
                    timeouts_us,
                    phases: 2,
                },
            },
            outcome: plan::Outcome::default(),
            let_through: 0,
            report: Report::default(),
            wrong: Vec::new(),
            thresholds: Some(found),
        }
    }

    #[test]
    fn thresholds_may_be_one_step_apart_and_no_more() {
        let finds = |never_up_to_us, always_from_us| {
            let predicted = (Nanos::from_millis(2), Nanos::from_millis(3));
            let found = MeasuredThresholds {
                never_up_to_us,
                always_from_us,
                predicted,
                ..MeasuredThresholds::default()
            };
            comparison(found).finds_thresholds()
        };
        assert!(finds(Some(2_000), Some(3_000)));
        assert!(finds(Some(1_000), Some(2_000)));
        assert!(!finds(None, Some(3_000)));
        assert!(!finds(Some(2_000), None));
    }

    #[test]
    fn threads_cpu_and_model_have_to_count_the_same() {
        let profile: Profile = "6.12".parse().expect("a profile");
        let machine = Machine {
            hardware: split_lock_model::machine::Hardware::ICE_LAKE,
            topology: Topology::SINGLE,
            ticks: Ticks::counted(&[(0, 0), (1_000_000_000, 250)]).expect("a tick rate"),
        };
        let row = TrapRow {
            mark: None,
            ns: 0,
            pid: 1,
            cpu: 0,
            verdict: Verdict::Passed,
            asleep_after_ns: None,
            awake_after_ns: None,
            slept_ticks: None,
            queued_ticks: None,
            window_ticks: None,
            signal_after_ns: None,
        };
        let mut compared = comparison(MeasuredThresholds::default());
        compared.report.traps.push(row);
        (compared.let_through, compared.outcome.completed) = (5, 5);
        let wrong = |compared: &mut Comparison| {
            compared.compare_counts(&profile, &machine);
            compared.wrong.len()
        };
        assert_eq!(wrong(&mut compared), 0, "{:?}", compared.wrong);
        compared.outcome.completed = 4;
        assert_eq!(wrong(&mut compared), 1);
        compared.experiment.origin = TrapOrigin::Guest;
        assert_eq!(wrong(&mut compared), 0, "its last exit may be missing");
        compared.outcome.sigbus = 1;
        assert_eq!(wrong(&mut compared), 1);
        compared.report.traps.clear();
        assert_eq!(wrong(&mut compared), 2);
    }
}
