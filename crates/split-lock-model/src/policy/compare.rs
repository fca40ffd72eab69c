//! What each alternative gives and takes, found by simulation.

use serde::Serialize;

use super::Alternative;
use crate::kernel::{Profile, ProfileError};
use crate::machine::{CpuId, Topology};
use crate::sim::{
    Budget, Program, Report, Scenario, ScenarioError, TaskSpec, Until, simulate_observed,
};
use crate::time::Nanos;

/// The conditions of the comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// How long a split lock takes while detection is off.
    pub split_cost: Nanos,
    /// How long each scenario is simulated.
    pub horizon: Nanos,
    /// The signal periods of VMMs at which progress is looked for.
    pub timeouts: Vec<Nanos>,
    /// The timers that an attacker tries.
    pub attack_timers: Vec<Nanos>,
    /// How many others split at once where neighbours matter.
    pub others: u32,
    /// How many phases of the ticks each timeout is tried at.
    pub phases: u32,
}

impl Default for Comparison {
    /// 1 to 49 ms; attackers' timers of 20 us to 50 ms; four neighbours; split locks of 1 us.
    fn default() -> Self {
        let timers = [
            20, 50, 100, 250, 500, 1_000, 2_000, 4_000, 8_000, 12_000, 16_000, 50_000,
        ];
        Self {
            split_cost: Nanos::from_micros(1),
            horizon: Nanos::from_secs(4),
            timeouts: (1..50).map(Nanos::from_millis).collect(),
            attack_timers: timers.map(Nanos::from_micros).to_vec(),
            others: 4,
            phases: 4,
        }
    }
}

/// What one alternative gives and takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Assessment {
    /// The alternative.
    pub policy: Alternative,
    /// For each timeout, a VMM's progress as a share of that without detection, at the worst phase.
    pub progress: Vec<Progress>,
    /// The same while others split on other cores.
    pub contended: Vec<Progress>,
    /// Of a thread without a timer: split locks per second.
    pub honest_per_second: f64,
    /// Of a thread that chooses its best timer.
    pub attacker_per_second: f64,
    /// That timer; none if none is best.
    pub attack_timer: Option<Nanos>,
    /// Share of time with detection off on the attacker's core.
    pub attacker_share_off: f64,
    /// Time that all attackers together ask the bus to be locked, per time: above 1 they slow each
    /// other down. This is what every other thread in the machine loses at most.
    pub crowd_bus_share: f64,
    /// How many times longer 10 ms of work with one split lock takes next to the attackers.
    pub sparse_slowdown: f64,
    /// The same without attackers.
    pub sparse_slowdown_alone: f64,
    /// The longest that a VMM's 1 ms timer waits while others split on other cores.
    pub worst_signal_delay: Nanos,
    /// The longest that a deadly signal waits then.
    pub worst_kill_delay: Nanos,
}

/// Progress at one signal period.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Progress {
    /// The period.
    pub timeout: Nanos,
    /// Turns, as a share of those without detection, at the worst phase.
    pub share: f64,
}

impl Assessment {
    /// How many of the periods allow no progress at all, at some phase.
    #[must_use]
    pub fn stuck(progress: &[Progress]) -> usize {
        progress
            .iter()
            .filter(|progress| progress.share == 0.0)
            .count()
    }

    /// How many times more an attacker gets than a thread that does not try.
    #[must_use]
    pub fn attack_gain(&self) -> f64 {
        self.attacker_per_second / self.honest_per_second
    }
}

/// A comparison that cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    /// The kernel cannot be set so.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A scenario cannot be simulated.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// Nothing to try.
    #[error("{0}: there are none")]
    Empty(&'static str),
}

impl Alternative {
    /// Runs a scenario on `kernel` as it would be then.
    ///
    /// # Errors
    /// [`CompareError`], which names the field that is wrong.
    pub fn simulate(self, kernel: &Profile, scenario: &Scenario) -> Result<Report, CompareError> {
        let kernel = self.profile(kernel)?;
        Ok(simulate_observed(
            &kernel,
            self.rules(),
            scenario,
            &mut |_, _| (),
        )?)
    }
}

impl Comparison {
    /// Assesses one alternative on a kernel.
    ///
    /// # Errors
    /// [`CompareError`], which names the field that is wrong.
    pub fn assess(
        &self,
        policy: Alternative,
        kernel: &Profile,
    ) -> Result<Assessment, CompareError> {
        if self.timeouts.is_empty() {
            return Err(CompareError::Empty("timeouts"));
        }
        if self.phases == 0 {
            return Err(CompareError::Empty("phases"));
        }
        let scenarios = Scenarios {
            plan: self,
            policy,
            kernel,
            splitting: Program::split_loop(self.split_cost).map_err(ScenarioError::from)?,
        };
        let honest = scenarios.thread(None)?;
        let (attack_timer, attack) = scenarios.best_attack()?;
        let per_second = |report: &Report| rate(report.tasks[0].splits, report.elapsed);
        Ok(Assessment {
            policy,
            progress: scenarios.progress(0)?,
            contended: scenarios.progress(self.others)?,
            honest_per_second: per_second(&honest),
            attacker_per_second: per_second(&attack),
            attack_timer,
            attacker_share_off: share(attack.windows.open, attack.elapsed),
            crowd_bus_share: scenarios.crowd(attack_timer)?,
            sparse_slowdown: scenarios.sparse(self.others, attack_timer)?,
            sparse_slowdown_alone: scenarios.sparse(0, None)?,
            worst_signal_delay: scenarios.signal_delay()?,
            worst_kill_delay: scenarios.kill_delay()?,
        })
    }
}

/// When threads that split without pause have settled into their cycle.
const SETTLED: Nanos = Nanos::from_millis(500);

/// The scenarios, for one alternative.
struct Scenarios<'a> {
    plan: &'a Comparison,
    policy: Alternative,
    kernel: &'a Profile,
    splitting: Program,
}

impl Scenarios<'_> {
    /// Runs a thread on CPU 0 with others, on CPUs of their own, that split all the time.
    fn run(
        &self,
        subject: TaskSpec,
        others: u32,
        timer: Option<Nanos>,
        adjust: impl Fn(&mut Scenario),
    ) -> Result<Report, CompareError> {
        let topology = Topology::new(others + 1, 1).map_err(ScenarioError::from)?;
        let mut tasks = vec![subject];
        for cpu in 1..=others {
            // Not all at once: each starts a little later than the last.
            let start = Nanos::from_micros(1_300 * u64::from(cpu));
            tasks.push(
                TaskSpec::user(self.splitting, timer)
                    .on(CpuId(cpu))
                    .starting_at(start),
            );
        }
        let mut scenario = Scenario::new(topology, tasks);
        scenario.horizon = SETTLED.plus(self.plan.horizon);
        scenario.until = Until::Horizon;
        adjust(&mut scenario);
        self.policy.simulate(self.kernel, &scenario)
    }

    fn phases(&self) -> impl Iterator<Item = Nanos> {
        let (pattern, phases) = (self.kernel.hz().pattern().0, u64::from(self.plan.phases));
        (0..phases).map(move |n| Nanos((2 * n + 1) * pattern / (2 * phases)))
    }

    fn progress(&self, others: u32) -> Result<Vec<Progress>, CompareError> {
        let at = |timeout| {
            let mut worst = f64::INFINITY;
            for phase in self.phases() {
                let vcpu = TaskSpec::vcpu(self.splitting, Budget::Relative(timeout));
                // The others have settled by then: luck at the start is no progress.
                let vcpu = vcpu.starting_at(SETTLED);
                let report = self.run(vcpu, others, None, |s| s.tick_phase = phase)?;
                let work = report.tasks[0].splits * self.plan.split_cost.0;
                worst = worst.min(share(Nanos(work), report.tasks[0].time.total()));
            }
            Ok(Progress {
                timeout,
                share: worst,
            })
        };
        self.plan
            .timeouts
            .iter()
            .map(|&timeout| at(timeout))
            .collect()
    }

    fn thread(&self, timer: Option<Nanos>) -> Result<Report, CompareError> {
        self.run(TaskSpec::user(self.splitting, timer), 0, None, |_| {})
    }

    fn best_attack(&self) -> Result<(Option<Nanos>, Report), CompareError> {
        let mut best = (None, self.thread(None)?);
        for &timer in &self.plan.attack_timers {
            let report = self.thread(Some(timer))?;
            if report.tasks[0].splits > best.1.tasks[0].splits {
                best = (Some(timer), report);
            }
        }
        Ok(best)
    }

    fn crowd(&self, timer: Option<Nanos>) -> Result<f64, CompareError> {
        let subject = TaskSpec::user(self.splitting, timer);
        let report = self.run(subject, self.plan.others, timer, |_| {})?;
        let splits: u64 = report.tasks.iter().map(|task| task.splits).sum();
        Ok(share(
            Nanos(splits * self.plan.split_cost.0),
            report.elapsed,
        ))
    }

    fn sparse(&self, others: u32, timer: Option<Nanos>) -> Result<f64, CompareError> {
        let program = Program::new(Nanos::from_millis(10), 1, self.plan.split_cost)
            .map_err(ScenarioError::from)?;
        let report = self.run(TaskSpec::user(program, None), others, timer, |_| {})?;
        let work = report.tasks[0].turns * program.turn().0;
        Ok(1.0 / share(Nanos(work), report.elapsed))
    }

    fn signal_delay(&self) -> Result<Nanos, CompareError> {
        let vcpu = TaskSpec::vcpu(self.splitting, Budget::Relative(Nanos::from_millis(1)));
        let report = self.run(vcpu, self.plan.others, None, |_| {})?;
        Ok(report.tasks[0].worst_signal_delay)
    }

    fn kill_delay(&self) -> Result<Nanos, CompareError> {
        let mut worst = Nanos::ZERO;
        for n in 1..=40 {
            let mut thread = TaskSpec::user(self.splitting, None);
            thread.kill_at = Some(SETTLED.plus(Nanos::from_micros(1_700 * n)));
            let report = self.run(thread, self.plan.others, None, |_| {})?;
            worst = worst.max(report.tasks[0].kill_delay.unwrap_or(report.elapsed));
        }
        Ok(worst)
    }
}

fn share(part: Nanos, of: Nanos) -> f64 {
    part.0 as f64 / of.0 as f64
}

fn rate(count: u64, time: Nanos) -> f64 {
    count as f64 * 1e9 / time.0 as f64
}
