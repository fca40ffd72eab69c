//! Sweeps that the model makes, without any guest having run.

use std::fmt;
use std::time::Duration;

use split_lock_model::kernel::{Mode, Profile, ProfileError};
use split_lock_model::progress::{Phase, PlannedRun, ProgramPlan, ProgressError, ProgressPlan};
use split_lock_model::sim::{self, Program, ProgramError};
use split_lock_model::time::Nanos;
use split_lock_repro::program;
use split_lock_repro::results::{Origin, Outcome, Sample, Sweep};
use split_lock_repro::summary::{Curve, Spread, curves};

/// More runs than this of each curve are a mistake.
const MOST_RUNS: u64 = 500_000;

/// Why the model makes no sweep.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SweepError {
    /// More runs of a curve than anybody needs.
    #[error("{0} runs are too many: {MOST_RUNS} is the limit")]
    TooManyRuns(u64),
    /// A guest whose turns take no time.
    #[error("plain_cost: a turn takes more than 0 ps")]
    PlainCost,
    /// The kernel ends the guest at its first split lock.
    #[error("on kernel {kernel} SIGBUS ends the guest `{guest}` before any timeout")]
    Sigbus {
        /// The kernel's profile.
        kernel: String,
        /// The guest's name.
        guest: &'static str,
    },
    /// A split lock that takes no time.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A kernel that has no counterpart without detection.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Timeouts or repeats that the model refuses.
    #[error(transparent)]
    Plan(#[from] ProgressError),
}

/// How long a guest's operations take. Stated, never fitted: they belong to the hardware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HardwareCosts {
    /// A split lock while detection is off.
    pub split: Duration,
    /// A turn of the same loop that crosses no line, in picoseconds: it takes a few cycles only.
    pub plain_turn_ps: u64,
}

impl Default for HardwareCosts {
    fn default() -> Self {
        HardwareCosts {
            split: Duration::from_nanos(1_100),
            plain_turn_ps: 2_700,
        }
    }
}

impl HardwareCosts {
    /// What the operations took in a sweep of `split` and `aligned` that nothing interrupted; `None`
    /// if it does not show that.
    pub fn measured(sweep: &Sweep) -> Option<Self> {
        let curves = curves(sweep);
        let undisturbed = |curve: &Curve| {
            let rates = curve.points.iter().map(|point| point.turns_per_cpu_s);
            // One timeout without progress is enough to know that something interrupts it.
            let rates: Vec<_> = rates.map(|rate| (rate.min, rate.median)).collect();
            let undisturbed = rates.iter().all(|(least, _)| *least > 0.0);
            let median = Spread::of(rates.iter().map(|(_, median)| *median))?.median;
            undisturbed.then_some(1.0 / median)
        };
        let seconds_per_turn = |guest: &str| {
            let mut curves = curves.iter().filter(|curve| curve.guest == guest);
            curves.find_map(undisturbed)
        };
        Some(HardwareCosts {
            split: Duration::from_secs_f64(seconds_per_turn("split")?),
            plain_turn_ps: (seconds_per_turn("aligned")? * 1e12).round() as u64,
        })
    }
}

impl fmt::Display for HardwareCosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let split_ns = self.split.as_nanos();
        let turn_ns = self.plain_turn_ps as f64 / 1e3;
        write!(
            f,
            "{split_ns} ns for a split lock, {turn_ns:.2} ns for an aligned turn"
        )
    }
}

/// A figure's worth of samples without any guest having run: a splitting guest on this kernel and
/// on the same one with detection off, as two series, and an aligned one on this kernel.
///
/// # Errors
/// If the model refuses the timeouts, the number of repeats or the costs, or if SIGBUS ends the
/// splitting guest on this kernel, so that there is nothing to draw.
pub fn sweep(
    kernel: &Profile,
    timeouts: &[Duration],
    repeats: u32,
    seed: u64,
    costs: HardwareCosts,
) -> Result<Vec<Sample>, SweepError> {
    let runs = timeouts.len() as u64 * u64::from(repeats);
    if runs > MOST_RUNS {
        return Err(SweepError::TooManyRuns(runs));
    }
    if costs.plain_turn_ps == 0 {
        return Err(SweepError::PlainCost);
    }
    let split = Program::split_loop(costs.split.into())?;
    let off = kernel.with_mode(Mode::Off)?;
    let mut curves = vec![("split", split, kernel)];
    if off != *kernel {
        curves.insert(0, ("split", split, &off));
    }
    // The model counts in nanoseconds: as many turns of one as there were, and the loop's own turns
    // follow from that.
    curves.push(("aligned", Program::plain_loop(Nanos(1))?, kernel));
    let mut samples = vec![];
    for (guest, program, profile) in curves {
        let plan = ProgressPlan {
            program,
            costs: sim::Costs::default(),
            timeouts: timeouts.iter().copied().map(Nanos::from).collect(),
            repeats,
            phase: Phase::Random(seed),
        };
        let rows = plan.runs(profile)?;
        if rows.is_empty() && !timeouts.is_empty() {
            let kernel = profile.to_string();
            return Err(SweepError::Sigbus { kernel, guest });
        }
        let turn_ps = (guest != "split").then_some(costs.plain_turn_ps);
        samples.extend(rows.iter().map(|row| sample(guest, profile, row, turn_ps)));
    }
    Ok(samples)
}

/// Programs with timers without any program having run: each timer at each period on this kernel.
///
/// # Errors
/// If the model refuses the periods, the length, the number of repeats or the cost of a split lock, or if SIGBUS ends the
/// program on this kernel.
pub fn programs(
    kernel: &Profile,
    plan: &program::Plan,
    split: Duration,
) -> Result<Vec<Sample>, SweepError> {
    let runs = plan.periods.len() as u64 * u64::from(plan.repeats);
    if runs > MOST_RUNS {
        return Err(SweepError::TooManyRuns(runs));
    }
    let mut samples = vec![];
    for timer in &plan.timers {
        let modelled = ProgramPlan {
            program: Program::split_loop(split.into())?,
            costs: sim::Costs::default(),
            clock: timer.clock(),
            periods: plan.periods.iter().copied().map(Nanos::from).collect(),
            length: plan.length.into(),
            repeats: plan.repeats,
            phase: Phase::Random(plan.seed),
        };
        let rows = modelled.runs(kernel)?;
        if rows.is_empty() {
            let (kernel, guest) = (kernel.to_string(), "program");
            return Err(SweepError::Sigbus { kernel, guest });
        }
        let name = timer.guest_name();
        samples.extend(rows.iter().map(|row| sample(&name, kernel, row, None)));
    }
    Ok(samples)
}

/// With the turns that take `turn_ps` each, if it is given, instead of one nanosecond each.
fn sample(guest: &str, kernel: &Profile, row: &PlannedRun, turn_ps: Option<u64>) -> Sample {
    let turns = |turn_ps| u128::from(row.run.turns) * 1_000 / u128::from(turn_ps);
    Sample {
        series: Origin::Modelled(kernel.to_string()).to_string(),
        guest: guest.into(),
        host: kernel.to_string(),
        vcpu: 0,
        timeout_ns: row.timeout.0,
        run: row.repeat,
        turns: turn_ps.map_or(row.run.turns, |turn_ps| {
            u64::try_from(turns(turn_ps)).unwrap_or(u64::MAX)
        }),
        elapsed_ns: row.run.elapsed.0,
        cpu_ns: row.run.cpu.0,
        exits: 0,
        outcome: Outcome::Expired,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use split_lock_repro::sweep::Host;

    fn swept(kernel: &str, seed: u64) -> Vec<Sample> {
        let timeouts = [5, 13, 15].map(Duration::from_millis);
        let costs = HardwareCosts::default();
        sweep(&kernel.parse().unwrap(), &timeouts, 3, seed, costs).unwrap()
    }

    fn turns(samples: &[Sample], guest: &str, series: &str, ms: u64) -> Vec<u64> {
        let wanted = samples.iter().filter(|sample| {
            sample.guest == guest && sample.series == series && sample.timeout_ns == ms * 1_000_000
        });
        wanted.map(|sample| sample.turns).collect()
    }

    #[test]
    fn costs_are_taken_from_runs_that_nothing_interrupted_and_from_no_others() {
        let kernel = "6.6,hz=1000".parse().unwrap();
        let timeouts = [5, 15].map(Duration::from_millis);
        let stated = HardwareCosts::default();
        let samples = sweep(&kernel, &timeouts, 3, 1, stated).unwrap();
        let of = |series: &str| Sweep {
            provenance: None,
            samples: samples
                .iter()
                .filter(|sample| sample.guest == "aligned" || sample.series == series)
                .cloned()
                .collect(),
        };
        let costs = HardwareCosts::measured(&of("modelled (6.6,hz=1000,mode=off)")).unwrap();
        assert!(
            costs.split.abs_diff(stated.split) < Duration::from_nanos(5),
            "{costs}"
        );
        assert!(
            costs.plain_turn_ps.abs_diff(stated.plain_turn_ps) < 20,
            "{costs}"
        );
        assert_eq!(HardwareCosts::measured(&of("modelled (6.6,hz=1000)")), None);
    }

    #[test]
    fn a_series_names_the_kernel_that_it_follows() {
        let samples = swept("6.6,hz=1000", 1);
        assert_eq!(samples.len(), 3 * 3 * 3);
        let warn = "modelled (6.6,hz=1000)";
        let off = "modelled (6.6,hz=1000,mode=off)";
        assert_eq!(turns(&samples, "split", warn, 5), [0; 3]);
        // A split lock in progress is completed.
        assert_eq!(
            turns(&samples, "split", off, 5),
            [5_000_000_u64.div_ceil(1_100); 3]
        );
        assert_eq!(
            turns(&samples, "aligned", warn, 5),
            [5_000_000_000 / 2_700; 3]
        );
        let steps = turns(&samples, "split", warn, 15);
        assert!(steps.iter().all(|&turns| turns > 1_500), "{steps:?}");
        for sample in &samples {
            assert_eq!(sample.series, format!("modelled ({})", sample.host));
        }
    }

    #[test]
    fn the_seed_decides() {
        let swept = |seed| swept("6.6,hz=1000", seed);
        assert_eq!(swept(7), swept(7));
        assert_ne!(swept(7), swept(8));
    }

    #[test]
    fn a_kernel_without_detection_is_one_series() {
        let samples = swept("6.6,mode=off", 1);
        assert!(
            samples
                .iter()
                .all(|s| s.series == "modelled (6.6,hz=250,mode=off)")
        );
        assert_eq!(samples.len(), 2 * 3 * 3);
    }

    #[test]
    fn without_timeouts_there_are_no_samples() {
        let kernel = "6.6".parse().unwrap();
        let samples = sweep(&kernel, &[], 1, 0, HardwareCosts::default());
        assert_eq!(samples.unwrap(), []);
    }

    #[test]
    fn what_cannot_be_modelled_is_named() {
        let message = |kernel: &str, timeouts: &[Duration], repeats, costs| {
            let kernel = kernel.parse().unwrap();
            let error = sweep(&kernel, timeouts, repeats, 0, costs).unwrap_err();
            error.to_string()
        };
        let (one, costs) = ([Duration::from_millis(1)], HardwareCosts::default());
        let free = HardwareCosts {
            split: Duration::ZERO,
            ..costs
        };
        let none = HardwareCosts {
            plain_turn_ps: 0,
            ..costs
        };
        assert!(message("6.6", &one, 1, free).contains("split_cost"));
        assert!(message("6.6", &one, 1, none).contains("plain_cost"));
        assert!(message("6.6", &one, 0, costs).contains("repeats"));
        assert!(message("6.6", &[Duration::ZERO], 1, costs).contains("period"));
        assert!(message("6.6,mode=fatal", &one, 1, costs).contains("SIGBUS"));
    }

    #[test]
    fn programs_are_modelled_with_the_names_that_measuring_gives_them() {
        let plan = program::Plan {
            timers: vec![program::Timer::ItimerReal, program::Timer::ThreadCpu],
            periods: [1, 30].map(Duration::from_millis).to_vec(),
            length: Duration::from_millis(100),
            repeats: 2,
            host: Host::Native,
            settle: Duration::ZERO,
            seed: 1,
        };
        let samples =
            |kernel: &str| programs(&kernel.parse().unwrap(), &plan, Duration::from_micros(1));
        let samples_6_6 = samples("6.6,hz=1000").unwrap();
        let series = "modelled (6.6,hz=1000)";
        let turns = |guest, ms| turns(&samples_6_6, guest, series, ms);
        assert_eq!(turns("program:itimer-real", 1), [0; 2]);
        assert!(
            turns("program:thread-cpu", 1)
                .iter()
                .all(|turns| *turns > 10_000)
        );
        let error = samples("6.6,mode=fatal").unwrap_err().to_string();
        assert!(error.contains("SIGBUS"), "{error}");
    }
}
