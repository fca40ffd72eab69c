//! Sweeps in the machine, and what has to come of them.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use split_lock_lab::cpu::journal::Event;
use split_lock_lab::cpu::script::Command;
use split_lock_model::analysis::Thresholds;
use split_lock_model::kernel::Profile;
use split_lock_model::time::{Jiffies, Nanos};

use crate::host::machine::outputs::rows;

/// A sweep, with a name that is unique in its boot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweep {
    pub(super) name: &'static str,
    pub(super) subject: Subject,
    pub(super) guard: &'static str,
    /// A figure shows it.
    pub(super) is_drawn: bool,
    pub(super) expected: Expected,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// Nothing but split locks, at CPL3.
    Dense,
    /// One after each millisecond of work, at CPL0.
    Sparse,
    /// A process with a timer of its own.
    Program,
}

/// What has to come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// All the turns that the time allows, and not one trap.
    Undisturbed,
    /// No turn in any run that is never long enough for the kernel's sleep, and a turn in each that outlasts it.
    PastTheSleep,
    /// After a run without a turn the next one has some.
    Granted,
    /// Turns in every run, and half as many as undisturbed if there is work in between, after [`TRAPS_OF_A_STALL`]:
    /// from then on the split lock is emulated before it can trap.
    Emulated,
}

/// The time that a split lock takes which the CPU lets through: about what was measured on hardware.
pub(super) const BUS_LOCK: Duration = Duration::from_micros(1);

/// The work of [`Subject::Sparse`].
const WORK: Duration = Duration::from_millis(1);

/// What a figure shows.
const FOR_A_FIGURE: &str = "--timeouts 1ms..49ms/1ms --repeat 5";

/// Below, between and above the thresholds of all kernels.
const ENOUGH_TO_JUDGE: &str = "--timeouts 1ms..49ms/6ms --repeat 3";

const DENSE: Sweep = Sweep {
    name: "dense",
    subject: Subject::Dense,
    guard: "off",
    is_drawn: true,
    expected: Expected::PastTheSleep,
};

const SPARSE: Sweep = Sweep {
    name: "sparse",
    subject: Subject::Sparse,
    ..DENSE
};

/// Where the kernel was told not to detect.
pub(super) const SWEEPS_DETECTION_OFF: [Sweep; 2] = [
    Sweep {
        expected: Expected::Undisturbed,
        ..DENSE
    },
    Sweep {
        expected: Expected::Undisturbed,
        ..SPARSE
    },
];

/// Where it punishes. The kernel names only a few of a program's many processes, so this one has a boot of its own.
pub(super) const SWEEPS_PROGRAM: [Sweep; 1] = [Sweep {
    name: "program-with-timer",
    subject: Subject::Program,
    is_drawn: false,
    ..DENSE
}];

/// Where it punishes.
pub(super) const SWEEPS_WARN: [Sweep; 7] = [
    DENSE,
    SPARSE,
    Sweep {
        name: "dense-report",
        guard: "report",
        is_drawn: false,
        ..DENSE
    },
    Sweep {
        name: "dense-grace",
        guard: "grace",
        is_drawn: false,
        expected: Expected::Granted,
        ..DENSE
    },
    Sweep {
        name: "dense-auto",
        guard: "auto",
        is_drawn: false,
        expected: Expected::Emulated,
        ..DENSE
    },
    Sweep {
        name: "dense-emulate",
        guard: "emulate",
        expected: Expected::Emulated,
        ..DENSE
    },
    Sweep {
        name: "sparse-emulate",
        guard: "emulate",
        expected: Expected::Emulated,
        ..SPARSE
    },
];

/// One that holds the guest up, and perhaps one more by which the guard makes sure. Both are in runs that do not count.
const TRAPS_OF_A_STALL: RangeInclusive<usize> = 1..=2;

/// Medians for a person.
const MOST_SHOWN: usize = 9;

/// Of a run's time: entries and exits, the host's ticks, and the turn that was not done at its end.
const UNDISTURBED_SHARE: f64 = 0.8;

impl Subject {
    fn arguments(self) -> &'static str {
        match self {
            Subject::Dense => "--guest split --level cpl3",
            Subject::Sparse => "--guest sparse:1ms --level cpl0",
            Subject::Program => "--program --timer itimer-real",
        }
    }

    /// The turns that a run of this length allows.
    fn most_turns(self, run: Nanos) -> u64 {
        let turn = match self {
            Subject::Dense | Subject::Program => BUS_LOCK,
            Subject::Sparse => WORK,
        };
        // The first one of a sparse guest begins with its work.
        u64::try_from(u128::from(run.0) / turn.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Sweep {
    /// Whether a trap is of what the sweep measures.
    pub(super) fn is_own(&self, trap: &Event) -> bool {
        trap.guest == (self.subject != Subject::Program)
    }

    pub(super) fn command(&self, for_figures: bool) -> Command {
        let runs = match for_figures && self.is_drawn {
            true => FOR_A_FIGURE,
            false => ENOUGH_TO_JUDGE,
        };
        let line = format!(
            "/bin/splitlock sweep {} {runs} --seed 1{} --csv -",
            self.subject.arguments(),
            match self.subject {
                Subject::Program => String::new(),
                _ => format!(" --warm-up 2 --guard {}", self.guard),
            }
        );
        Command::new(self.name, &line)
    }

    /// What came, as a sentence without its full stop, and whether it is what has to come. `traps`: #AC in guests
    /// meanwhile, by the CPU's journal.
    pub(super) fn judge(
        &self,
        csv: &str,
        traps: usize,
        profile: &Profile,
    ) -> Result<(String, bool)> {
        let samples: Vec<Sample> = rows(csv)?;
        let limits = &Thresholds::of(profile).context("this kernel does not sleep")?;
        let is_as_expected = |sample: &Sample| self.is_as_expected(sample, limits);
        let as_many_traps = match self.expected {
            Expected::Undisturbed => traps == 0,
            Expected::PastTheSleep | Expected::Granted => traps > 0,
            Expected::Emulated => TRAPS_OF_A_STALL.contains(&traps),
        };
        let is_granted = |runs: &[Sample]| runs.iter().any(|run| run.turns > 0);
        let is_so = as_many_traps
            && is_of_this_cpu(csv)?
            && samples.iter().all(is_as_expected)
            && (self.expected != Expected::Granted || samples.windows(2).all(is_granted));
        let medians = medians(&samples);
        let step = medians.len().div_ceil(MOST_SHOWN);
        let shown = medians.into_iter().step_by(step);
        let shown: Vec<String> = shown
            .map(|(ms, turns)| format!("{ms} ms {turns}"))
            .collect();
        let what = format!(
            "{}: {} ({traps} traps; median turns: {})",
            self.name,
            self.expected.in_words(),
            shown.join(", ")
        );
        Ok((what, is_so))
    }

    fn is_as_expected(&self, sample: &Sample, limits: &Thresholds) -> bool {
        let Sample {
            timeout_ns, turns, ..
        } = *sample;
        let timeout = Nanos(timeout_ns);
        match self.expected {
            Expected::Undisturbed => {
                let most = self.subject.most_turns(Nanos(sample.elapsed_ns));
                let least = (self.subject.most_turns(timeout) as f64 * UNDISTURBED_SHARE) as u64;
                (least..=most).contains(&turns)
            }
            Expected::Emulated => match self.subject {
                Subject::Dense | Subject::Program => turns > 0,
                Subject::Sparse => turns >= self.subject.most_turns(timeout) / 2,
            },
            Expected::Granted => true,
            Expected::PastTheSleep => {
                (timeout > limits.never_up_to() || turns == 0)
                    && (timeout < outlasting(limits) || turns > 0)
            }
        }
    }
}

impl Expected {
    fn in_words(self) -> &'static str {
        match self {
            Expected::Undisturbed => "as many turns as there is time for",
            Expected::PastTheSleep => {
                "no turn up to the length of the kernel's sleep, and some above"
            }
            Expected::Granted => "turns after each run that had none",
            Expected::Emulated => "turns in every run",
        }
    }
}

/// Whether each series says that it was measured on the CPU in software.
pub(super) fn is_of_this_cpu(csv: &str) -> Result<bool> {
    let samples: Vec<Sample> = rows(csv)?;
    Ok(samples.iter().all(|sample| {
        sample.series.starts_with("measured (CPU emulated)") && sample.host == "CPU emulated"
    }))
}

/// Longer than the longest sleep by a tick, in which the guest does something.
fn outlasting(limits: &Thresholds) -> Nanos {
    let ticks = Jiffies(limits.sleep_ticks().0 + 2);
    limits.hz().longest_span(ticks)
}

/// What of a sweep's row is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Sample {
    series: String,
    host: String,
    timeout_ns: u64,
    turns: u64,
    elapsed_ns: u64,
}

/// By milliseconds of the timeout.
fn medians(samples: &[Sample]) -> BTreeMap<u64, u64> {
    let mut all: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for sample in samples {
        let turns = all.entry(sample.timeout_ns / 1_000_000).or_default();
        turns.push(sample.turns);
    }
    let median = |mut turns: Vec<u64>| {
        turns.sort_unstable();
        turns[turns.len() / 2]
    };
    all.into_iter()
        .map(|(ms, turns)| (ms, median(turns)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One run at each of some timeouts.
    fn csv(runs: &[(u64, u64)]) -> String {
        let rows = runs.iter().map(|(ms, turns)| {
            let elapsed_ns = ms * 1_000_000 + 30_000;
            format!("measured (CPU emulated),CPU emulated,{ms}000000,{turns},{elapsed_ns}\n")
        });
        let heading = "# schema: \"splitlock-sweep\"\nseries,host,timeout_ns,turns,elapsed_ns\n";
        [heading.to_owned()].into_iter().chain(rows).collect()
    }

    fn is_so(sweep: &Sweep, runs: &[(u64, u64)], traps: usize) -> bool {
        let profile = "6.12,hz=250".parse().unwrap();
        sweep.judge(&csv(runs), traps, &profile).unwrap().1
    }

    #[test]
    fn punished_guest_has_to_stand_still_and_then_get_on() {
        // Never up to 8 ms, and past a sleep of at most 16 ms with a tick to spare.
        assert!(is_so(&DENSE, &[(1, 0), (8, 0), (12, 7), (21, 900)], 3));
        assert!(!is_so(&DENSE, &[(1, 0), (8, 1), (21, 900)], 3));
        assert!(!is_so(&DENSE, &[(1, 0), (8, 0), (21, 0)], 3));
        assert!(!is_so(&DENSE, &[(1, 0), (8, 0), (21, 900)], 0));
    }

    #[test]
    fn undisturbed_guest_has_to_use_its_time_and_no_more() {
        let [dense, sparse] = &SWEEPS_DETECTION_OFF;
        assert!(is_so(dense, &[(1, 950), (10, 9_500)], 0));
        assert!(!is_so(dense, &[(1, 950), (10, 7_900)], 0));
        assert!(!is_so(dense, &[(1, 1_100), (10, 9_500)], 0));
        assert!(!is_so(dense, &[(1, 950), (10, 9_500)], 1));
        assert!(is_so(sparse, &[(1, 0), (10, 9), (49, 48)], 0));
        assert!(!is_so(sparse, &[(10, 5)], 0));
    }

    #[test]
    fn emulated_split_lock_hardly_traps_and_no_run_stands_still() {
        let emulated = &SWEEPS_WARN[5];
        assert!(is_so(emulated, &[(1, 10), (10, 100)], 1));
        assert!(!is_so(emulated, &[(1, 10), (10, 100)], 3));
        assert!(!is_so(emulated, &[(1, 0), (10, 100)], 1));
        let sparse = &SWEEPS_WARN[6];
        assert!(is_so(sparse, &[(1, 0), (10, 9)], 2));
        assert!(!is_so(sparse, &[(1, 0), (10, 4)], 2));
    }

    #[test]
    fn run_that_stands_still_has_to_be_followed_by_one_that_does_not() {
        let granted = &SWEEPS_WARN[3];
        assert!(is_so(granted, &[(1, 0), (13, 900), (1, 0), (1, 900)], 9));
        assert!(!is_so(granted, &[(1, 900), (13, 0), (1, 0), (1, 900)], 9));
    }

    #[test]
    fn series_of_hardware_is_refused() {
        let csv = csv(&[(1, 950)]);
        assert!(is_of_this_cpu(&csv).unwrap());
        let native = csv.replace("CPU emulated", "native");
        assert!(!is_of_this_cpu(&native).unwrap());
        assert!(is_of_this_cpu("").is_err());
    }
}
