//! What is tried.

use serde::Serialize;
use split_lock_lab::plan::{Experiment, Kick};
use split_lock_model::handler::TrapOrigin;

use super::super::check::machines::{mitigated, together};
use super::measure::SETTLED_MS;

/// One experiment: a thread on CPU 0, and maybe others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Case {
    /// A thread, or a vCPU, with a timer.
    Timer {
        origin: TrapOrigin,
        period_ms: u64,
        /// That split locks without pause, and have no timer.
        neighbours: u8,
    },
    /// A program alone that chooses its timer; or has none.
    Attack { period_us: Option<u64> },
    /// Five programs on CPUs of their own: the first has no timer, the others those of [`CROWD_US`].
    Crowd,
}

/// As many as in the model's comparison.
pub(super) const NEIGHBOURS: u8 = 4;

/// From much shorter than a tick to right before a sleep's end.
const CROWD_US: [u64; NEIGHBOURS as usize] = [500, 1_000, 4_000, 9_300];

const ORIGINS: [TrapOrigin; 2] = [TrapOrigin::Guest, TrapOrigin::User];

/// How much is tried.
#[derive(Clone, Debug)]
pub(super) struct Conditions {
    periods_ms: Vec<u64>,
    attacks_us: Vec<u64>,
}

/// Moments within a tick at which a thread with a timer begins, if it is alone: beside others the queue decides.
const PHASES_ALONE: u32 = 2;

impl Conditions {
    pub(super) fn full() -> Self {
        Self {
            periods_ms: (1..50).collect(),
            attacks_us: vec![
                100, 250, 500, 1_000, 2_000, 4_000, 8_000, 9_300, 12_000, 16_000, 50_000,
            ],
        }
    }

    /// Far below the sleep, right below and above it, and far above.
    pub(super) fn short() -> Self {
        Self {
            periods_ms: vec![1, 8, 12, 20],
            attacks_us: CROWD_US.into(),
        }
    }

    /// For a machine with one CPU.
    pub(super) fn alone(&self) -> Vec<Case> {
        let attacks = self.attacks_us.iter().map(|&us| Some(us));
        let attacks = [None].into_iter().chain(attacks);
        let attacks = attacks.map(|period_us| Case::Attack { period_us });
        self.timers(0).chain(attacks).collect()
    }

    /// For a machine with a CPU for each thread.
    pub(super) fn beside_others(&self) -> Vec<Case> {
        self.timers(NEIGHBOURS).chain([Case::Crowd]).collect()
    }

    fn timers(&self, neighbours: u8) -> impl Iterator<Item = Case> {
        ORIGINS.into_iter().flat_map(move |origin| {
            self.periods_ms.iter().map(move |&period_ms| Case::Timer {
                origin,
                period_ms,
                neighbours,
            })
        })
    }
}

impl Case {
    pub(super) fn is_timer_of(&self, ms: u64) -> bool {
        matches!(self, Self::Timer { period_ms, .. } if *period_ms == ms)
    }

    /// At 1000 ticks a second one turn of five threads is 15 ms.
    pub(super) fn round_ms(&self) -> u64 {
        let measured_ms = match self {
            Self::Timer { .. } => 75,
            Self::Attack { .. } => 300,
            Self::Crowd => 1_000,
        };
        SETTLED_MS + measured_ms
    }

    pub(super) fn experiment(&self) -> Experiment {
        let (name, origin, kicks, phases) = match *self {
            Self::Timer {
                origin,
                period_ms,
                neighbours,
            } => {
                let mut kicks = vec![Kick::Never; usize::from(neighbours) + 1];
                kicks[0] = Kick::Every(period_ms * 1000);
                let name = format!("beside-{neighbours}-every-{period_ms}ms");
                let phases = if neighbours == 0 { PHASES_ALONE } else { 1 };
                (name, origin, kicks, phases)
            }
            Self::Attack { period_us: None } => {
                let name = "attack-without-a-timer".to_owned();
                (name, TrapOrigin::User, vec![Kick::Never], 1)
            }
            Self::Attack {
                period_us: Some(us),
            } => {
                let name = format!("attack-every-{us}us");
                (name, TrapOrigin::User, vec![Kick::Every(us)], 1)
            }
            Self::Crowd => {
                let kicks = CROWD_US.map(Kick::Every);
                let kicks = [Kick::Never].into_iter().chain(kicks).collect();
                ("crowd".to_owned(), TrapOrigin::User, kicks, 1)
            }
        };
        let cpus = u16::try_from(kicks.len()).expect("few threads");
        let workload = together(self.round_ms(), cpus, &kicks, phases);
        mitigated(&name, origin, workload)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn experiments_of_a_machine_have_names_of_their_own() {
        for conditions in [Conditions::full(), Conditions::short()] {
            for cases in [conditions.alone(), conditions.beside_others()] {
                let names = cases.iter().map(|case| case.experiment().name);
                assert_eq!(names.collect::<BTreeSet<_>>().len(), cases.len());
            }
        }
    }
}
