//! What is to be measured, and in which order. Pure data.

use std::collections::BTreeMap;
use std::time::Duration;

use split_lock_assist::guard;
use split_lock_model::kernel::Profile;
use split_lock_model::random::SplitMix64;

use crate::cpu::Cpu;
use crate::guest::{Guest, Level};
use crate::results::Origin;

/// Longer than anybody waits for a single run, and far from where nanoseconds overflow.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);

/// More samples than this do not fit into memory in comfort, and nobody waits for them.
const MOST_SAMPLES: u64 = 2_000_000;

/// Nothing gets any warmer after that.
const MOST_WARM_UP_RUNS: u32 = 1000;

/// Detection is off for at most three ticks, at 100 ticks a second, and a worker's delay: the pause
/// before each run ([`Plan::settle`]) on a host that detects split locks.
pub const LONGEST_WINDOW: Duration = Duration::from_millis(40);

/// More than any kernel's window, by far.
const LONGEST_SETTLE: Duration = Duration::from_secs(10);

/// Runs longer than this do not warm anything up any better.
const WARM_UP: Duration = Duration::from_millis(10);

/// A sweep that is to be made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What to measure.
    pub scenarios: Vec<Scenario>,
    /// The pending timeouts.
    pub timeouts: Vec<Duration>,
    /// How often each scenario is run at each timeout.
    pub repeats: u32,
    /// Runs of each scenario before the first that counts.
    pub warm_up_runs: u32,
    /// A pause before each run. Where split locks are detected, a run may leave detection off for
    /// some ticks, and the next one would profit: wait until that is over ([`LONGEST_WINDOW`]).
    pub settle: Duration,
    /// Decides on the order of the runs: it is random, so that a machine that becomes slower does
    /// not look like a curve, and the same for the same seed.
    pub seed: u64,
}

/// Guests that run at once, each on a vCPU of its own.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// One for each vCPU.
    pub guests: Vec<Guest>,
    /// The privilege level that they run at.
    pub level: Level,
    /// What their split locks meet.
    pub host: Host,
    /// What is done about it, if anything.
    pub guard: Option<guard::Config>,
}

/// What a guest's split locks meet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Host {
    /// This host as it is.
    #[default]
    Native,
    /// An emulated host that detects them, and does with them what this kernel does.
    Emulated(Profile),
}

impl Host {
    /// How a measurement on it is obtained with this CPU.
    #[must_use]
    pub fn origin(&self, cpu: Cpu) -> Origin {
        let trap = match self {
            Host::Native => None,
            Host::Emulated(kernel) => Some(kernel.to_string()),
        };
        Origin::Measured { cpu, trap }
    }

    /// What results call it with this CPU.
    #[must_use]
    pub fn name(&self, cpu: Cpu) -> String {
        match self {
            Host::Native => cpu.name().to_owned(),
            Host::Emulated(kernel) => kernel.to_string(),
        }
    }
}

/// Why a plan cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// Nothing would be measured.
    #[error("the plan has no {0}: there is nothing to measure")]
    Empty(&'static str),
    /// A run of no length measures nothing.
    #[error("a duration of zero measures nothing: use 1us or more")]
    ZeroTimeout,
    /// A run would take too long.
    #[error("a timeout of {timeout:?} is too long: {LONGEST_TIMEOUT:?} is the limit")]
    LongTimeout {
        /// The timeout.
        timeout: Duration,
    },
    /// A pause that nobody waits for.
    #[error("a pause of {pause:?} before each run is too long: {LONGEST_SETTLE:?} is the limit")]
    LongSettle {
        /// The pause.
        pause: Duration,
    },
    /// Nothing gets any warmer.
    #[error("{runs} warm-up runs are too many: {MOST_WARM_UP_RUNS} is the limit")]
    WarmUp {
        /// How many there would be.
        runs: u32,
    },
    /// More samples than a computer can keep.
    #[error("{samples} samples are too many: {MOST_SAMPLES} is the limit")]
    TooMany {
        /// How many there would be.
        samples: u128,
    },
}

/// One run of one scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Step {
    pub(crate) scenario: usize,
    pub(crate) timeout: Duration,
    pub(crate) run: u32,
}

/// Every scenario at every timeout, as often as planned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Runs<'a> {
    pub(crate) scenarios: usize,
    pub(crate) timeouts: &'a [Duration],
    pub(crate) repeats: u32,
}

impl Runs<'_> {
    pub(crate) fn check(&self, settle: Duration) -> Result<(), PlanError> {
        if self.timeouts.is_empty() {
            return Err(PlanError::Empty("timeouts"));
        }
        if self.repeats == 0 {
            return Err(PlanError::Empty("runs"));
        }
        if self.timeouts.iter().any(Duration::is_zero) {
            return Err(PlanError::ZeroTimeout);
        }
        if let Some(&timeout) = self.timeouts.iter().find(|&&t| t > LONGEST_TIMEOUT) {
            return Err(PlanError::LongTimeout { timeout });
        }
        if settle > LONGEST_SETTLE {
            return Err(PlanError::LongSettle { pause: settle });
        }
        Ok(())
    }

    /// Whether so many samples can be kept.
    pub(crate) fn check_samples(samples: u128) -> Result<(), PlanError> {
        match samples > u128::from(MOST_SAMPLES) {
            true => Err(PlanError::TooMany { samples }),
            false => Ok(()),
        }
    }

    /// All of them, in a random order that depends on `seed` alone.
    pub(crate) fn shuffled(&self, seed: u64) -> Vec<Step> {
        let mut steps = vec![];
        for scenario in 0..self.scenarios {
            for &timeout in self.timeouts {
                steps.extend((0..self.repeats).map(|run| Step {
                    scenario,
                    timeout,
                    run,
                }));
            }
        }
        shuffle(&mut steps, seed);
        steps
    }
}

impl Plan {
    /// Whether the plan can be carried out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), PlanError> {
        if self
            .scenarios
            .iter()
            .all(|scenario| scenario.guests.is_empty())
        {
            return Err(PlanError::Empty("guests"));
        }
        self.runs().check(self.settle)?;
        if self.warm_up_runs > MOST_WARM_UP_RUNS {
            return Err(PlanError::WarmUp {
                runs: self.warm_up_runs,
            });
        }
        Runs::check_samples(self.count_samples())
    }

    fn runs(&self) -> Runs<'_> {
        Runs {
            scenarios: self.scenarios.len(),
            timeouts: &self.timeouts,
            repeats: self.repeats,
        }
    }

    /// How many samples it will give.
    #[must_use]
    pub fn samples(&self) -> u64 {
        u64::try_from(self.count_samples()).unwrap_or(u64::MAX)
    }

    fn count_samples(&self) -> u128 {
        let vcpus: usize = self.scenarios.iter().map(|s| s.guests.len()).sum();
        vcpus as u128 * self.timeouts.len() as u128 * u128::from(self.repeats)
    }

    /// How long the guests will run, warming up aside.
    #[must_use]
    pub fn guest_time(&self) -> Duration {
        let once = self
            .timeouts
            .iter()
            .fold(Duration::ZERO, |sum, &timeout| sum.saturating_add(timeout));
        let scenarios = u32::try_from(self.scenarios.len()).unwrap_or(u32::MAX);
        once.saturating_mul(scenarios).saturating_mul(self.repeats)
    }

    /// All runs that count, in their random order.
    pub(super) fn steps(&self) -> Vec<Step> {
        self.runs().shuffled(self.seed)
    }

    pub(super) fn warm_up_steps(&self) -> Vec<Step> {
        let longest = self.timeouts.iter().max().copied().unwrap_or_default();
        let timeout = longest.min(WARM_UP);
        let of_scenario = |scenario| {
            (0..self.warm_up_runs).map(move |run| Step {
                scenario,
                timeout,
                run,
            })
        };
        (0..self.scenarios.len()).flat_map(of_scenario).collect()
    }
}

impl Scenario {
    /// What is special about how this vCPU runs, to be added to the name of a series: its guard, its
    /// level if it is not the usual one, and its neighbours, as in `; beside 2 x split`.
    #[must_use]
    pub fn condition(&self, vcpu: usize) -> String {
        let mut neighbours = BTreeMap::<String, usize>::new();
        for (other, guest) in self.guests.iter().enumerate() {
            if other != vcpu {
                *neighbours.entry(guest.to_string()).or_default() += 1;
            }
        }
        let guard = match &self.guard {
            None => String::new(),
            Some(config) => format!("; guard {}", config.reaction),
        };
        let level = match self.level {
            Level::Cpl3 => String::new(),
            level => format!("; at {}", level.to_string().to_uppercase()),
        };
        let beside = neighbours.iter().enumerate().map(|(i, (name, count))| {
            let before = if i == 0 { "; beside" } else { " and" };
            format!("{before} {count} x {name}")
        });
        beside.fold(guard + &level, |all, one| all + &one)
    }
}

/// Puts `items` into an order that depends on `seed` alone (Fisher and Yates).
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut random = SplitMix64::new(seed);
    for i in (1..items.len()).rev() {
        items.swap(i, random.below(i as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::FileOptions;

    fn scenario(names: &[&str]) -> Scenario {
        let find = |name: &&str| Guest::find(name, FileOptions::default()).unwrap();
        Scenario {
            guests: names.iter().map(find).collect(),
            level: Level::Cpl3,
            host: Host::Native,
            guard: None,
        }
    }

    fn plan() -> Plan {
        Plan {
            scenarios: vec![scenario(&["split"]), scenario(&["aligned", "split"])],
            timeouts: (1..=10).map(Duration::from_millis).collect(),
            repeats: 5,
            warm_up_runs: 2,
            settle: Duration::ZERO,
            seed: 1,
        }
    }

    #[test]
    fn every_run_is_made_once_and_in_an_order_that_the_seed_decides() {
        let steps = plan().steps();
        assert_eq!(steps.len(), 2 * 10 * 5);
        assert_eq!(steps, plan().steps());
        let other = Plan { seed: 2, ..plan() };
        assert_ne!(steps, other.steps());
        let mut sorted = steps.clone();
        sorted.sort();
        assert_ne!(steps, sorted);
        sorted.dedup();
        assert_eq!(sorted.len(), steps.len());
    }

    #[test]
    fn samples_are_counted_by_vcpu_and_time_by_scenario() {
        assert_eq!(plan().samples(), 3 * 10 * 5);
        assert_eq!(plan().guest_time(), Duration::from_millis(2 * 55 * 5));
        assert_eq!(plan().check(), Ok(()));
    }

    #[test]
    fn a_plan_that_cannot_be_carried_out_is_refused() {
        let refusal = |change: fn(&mut Plan)| {
            let mut plan = plan();
            change(&mut plan);
            plan.check().unwrap_err()
        };
        let zero = refusal(|plan| plan.timeouts = vec![Duration::ZERO]);
        assert_eq!(zero, PlanError::ZeroTimeout);
        let timeout = Duration::MAX;
        let long = refusal(|plan| plan.timeouts = vec![Duration::MAX]);
        assert_eq!(long, PlanError::LongTimeout { timeout });
        let runs = MOST_WARM_UP_RUNS + 1;
        let warm = refusal(|plan| plan.warm_up_runs = MOST_WARM_UP_RUNS + 1);
        assert_eq!(warm, PlanError::WarmUp { runs });
        let sleepy = refusal(|plan| plan.settle = Duration::from_secs(11));
        assert!(matches!(sleepy, PlanError::LongSettle { .. }));
        let endless = refusal(|plan| plan.repeats = u32::MAX);
        assert!(matches!(endless, PlanError::TooMany { .. }));
        let no_scenarios = refusal(|plan| plan.scenarios = vec![]);
        let no_timeouts = refusal(|plan| plan.timeouts = vec![]);
        let no_runs = refusal(|plan| plan.repeats = 0);
        for empty in [no_scenarios, no_timeouts, no_runs] {
            assert!(matches!(empty, PlanError::Empty(_)));
        }
    }

    #[test]
    fn neighbours_and_levels_become_part_of_a_series() {
        assert_eq!(scenario(&["split"]).condition(0), "");
        let mut scenario = scenario(&["aligned", "split", "split", "none"]);
        scenario.level = Level::Cpl0;
        let condition = scenario.condition(0);
        assert_eq!(condition, "; at CPL0; beside 1 x none and 2 x split");
        scenario.guard = Some(guard::Config::new(guard::Reaction::Auto));
        assert_eq!(
            scenario.condition(1),
            "; guard auto; at CPL0; beside 1 x aligned and 1 x none and 1 x split"
        );
    }

    #[test]
    fn a_recorded_seed_means_the_same_order_in_every_version() {
        let mut items = [0, 1, 2, 3, 4, 5, 6, 7];
        shuffle(&mut items, 42);
        assert_eq!(items, [4, 3, 2, 0, 7, 6, 1, 5]);
    }

    #[test]
    fn every_place_is_as_likely_as_any_other() {
        const ITEMS: usize = 6;
        let mut counts = [[0u32; ITEMS]; ITEMS];
        for seed in 0..6000 {
            let mut items: Vec<usize> = (0..ITEMS).collect();
            shuffle(&mut items, seed);
            for (place, item) in items.into_iter().enumerate() {
                counts[item][place] += 1;
            }
        }
        for count in counts.as_flattened() {
            assert!((850..1150).contains(count), "{counts:?}");
        }
    }
}
