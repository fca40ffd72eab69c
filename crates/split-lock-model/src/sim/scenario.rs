//! What is simulated: the machine, its threads, what they run, and for how long.

use serde::Serialize;

use super::program::Program;
use super::worker::WorkerWakeup;
use crate::machine::{CpuId, Hardware, Topology};
use crate::time::Nanos;

/// A machine and what happens on it.
///
/// Start from [`Scenario::single`] or [`Scenario::new`] and change what differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Scenario {
    /// CPUs and cores.
    pub topology: Topology,
    /// What the CPUs detect.
    pub hardware: Hardware,
    /// How long the steps between guest instructions take.
    pub costs: Costs,
    /// When a tick happens, counted from the start; all CPUs tick together.
    pub tick_phase: Nanos,
    /// How long a thread runs before the next one waiting for its CPU gets its turn.
    pub slice: Nanos,
    /// When a worker gets a CPU that a thread has.
    pub worker_wakeup: WorkerWakeup,
    /// CPUs on which something of higher priority keeps kernel workers from running, so that a
    /// window opened there never closes.
    pub starved_workers: Vec<CpuId>,
    /// The threads.
    pub tasks: Vec<TaskSpec>,
    /// Decides noise and migration.
    pub seed: u64,
    /// The simulated time after which to stop.
    pub horizon: Nanos,
    /// What else ends the simulation.
    pub until: Until,
    /// The most spans to keep for a timeline; 0 keeps none.
    pub trace_spans: usize,
}

/// What ends a simulation before its horizon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Until {
    /// A proof that no thread will ever progress again.
    AllStuck,
    /// A proof that everything from here on repeats, progress or not.
    Cycle,
    /// Nothing: the whole horizon is simulated.
    Horizon,
    /// So many finished runs of the first thread's bounded-run loop; each is recorded.
    Runs(u32),
}

/// One thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskSpec {
    /// For people.
    pub name: String,
    /// vCPU or user thread, and its timer.
    pub kind: TaskKind,
    /// What it executes.
    pub program: Program,
    /// Where it starts.
    pub cpu: CpuId,
    /// When it starts.
    pub start: Nanos,
    /// The mean time between other signals that reach it, if any do.
    pub noise: Option<Nanos>,
    /// How often it is moved to another CPU, if it is.
    pub migrate_every: Option<Nanos>,
    /// When it is killed, if it is.
    pub kill_at: Option<Nanos>,
    /// What its guest has to do first, each time the thread has waited in the kernel: serve the interrupts that came
    /// meanwhile. It splits no locks.
    pub work_after_wait: Nanos,
    /// For how long somebody who is not in the scenario has its CPU, each time it has waited in the kernel and is about
    /// to go on with its program.
    pub preempted_after_wait: Nanos,
}

/// What kind of thread, and which timer interrupts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// A VMM's loop around KVM_RUN. A signal ends the run with EINTR; the VMM does its round and
    /// runs the vCPU again.
    Vcpu(Budget),
    /// A program. A signal runs its handler, which returns to the interrupted instruction.
    User {
        /// The period of its interval timer, if it has one.
        interval: Option<Nanos>,
        /// What that timer counts.
        clock: TimerClock,
    },
}

/// What a program's interval timer counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimerClock {
    /// Time: setitimer(ITIMER_REAL), timer_create(CLOCK_MONOTONIC).
    #[default]
    Wall,
    /// CPU time of the thread, which stands still while the kernel makes it sleep. The kernel looks at the timer only
    /// at ticks while the thread is on a CPU.
    Cpu,
}

impl TaskKind {
    /// The period of its timer, if it has one.
    #[must_use]
    pub const fn period(self) -> Option<Nanos> {
        match self {
            Self::Vcpu(budget) => budget.period(),
            Self::User { interval, .. } => interval,
        }
    }

    /// The period of a timer that goes on whatever the thread does.
    pub(super) const fn grid(self) -> Option<Nanos> {
        match self {
            Self::Vcpu(Budget::Absolute(period)) => Some(period),
            Self::User {
                interval,
                clock: TimerClock::Wall,
            } => interval,
            Self::Vcpu(_) | Self::User { .. } => None,
        }
    }

    /// The period of a program's timer that goes on with the thread's CPU time.
    pub(super) const fn cpu_grid(self) -> Option<Nanos> {
        match self {
            Self::User {
                interval,
                clock: TimerClock::Cpu,
            } => interval,
            _ => None,
        }
    }
}

/// How a VMM bounds a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// Not at all.
    Unbounded,
    /// A timer armed anew before each run.
    Relative(Nanos),
    /// Deadlines on a fixed grid.
    Absolute(Nanos),
    /// A timer on the thread's CPU time, armed anew before each run. The kernel looks at it only
    /// at ticks while the thread is on a CPU.
    ThreadCpu(Nanos),
}

impl Budget {
    /// The time it allows, if it bounds anything.
    #[must_use]
    pub const fn period(self) -> Option<Nanos> {
        match self {
            Self::Unbounded => None,
            Self::Relative(p) | Self::Absolute(p) | Self::ThreadCpu(p) => Some(p),
        }
    }
}

/// How long steps take that are not the guest's own. Stated, not fitted: the defaults are round
/// figures of the right size for a current server, and can all be set to zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Costs {
    /// From the faulting instruction to the handler's decision: a VM exit or an exception.
    pub trap: Nanos,
    /// From a timer's or signal's wake-up to the thread running on an idle CPU.
    pub wakeup: Nanos,
    /// From the tick that expires delayed work to the worker running it; and the CPU time that it then uses, which
    /// [`WorkerWakeup`] remembers.
    pub kworker: Nanos,
    /// From EINTR through the VMM's loop back into the guest, re-arming the timer included.
    pub vmm_loop: Nanos,
    /// From a signal through a user thread's handler and back.
    pub signal_handler: Nanos,
}

impl Costs {
    /// Everything at once: what the closed forms describe.
    pub const ZERO: Self = Self {
        trap: Nanos::ZERO,
        wakeup: Nanos::ZERO,
        kworker: Nanos::ZERO,
        vmm_loop: Nanos::ZERO,
        signal_handler: Nanos::ZERO,
    };
}

impl Default for Costs {
    fn default() -> Self {
        Self {
            trap: Nanos::from_micros(2),
            wakeup: Nanos::from_micros(5),
            kworker: Nanos::from_micros(5),
            vmm_loop: Nanos::from_micros(10),
            signal_handler: Nanos::from_micros(2),
        }
    }
}

impl TaskSpec {
    /// A vCPU on CPU 0, from the start.
    #[must_use]
    pub fn vcpu(program: Program, budget: Budget) -> Self {
        Self::new("vCPU", TaskKind::Vcpu(budget), program)
    }

    /// A user thread on CPU 0, from the start, with a timer that counts time.
    #[must_use]
    pub fn user(program: Program, interval: Option<Nanos>) -> Self {
        Self::program(program, interval, TimerClock::Wall)
    }

    /// The same with a timer that counts what it is told to.
    #[must_use]
    pub fn program(program: Program, interval: Option<Nanos>, clock: TimerClock) -> Self {
        Self::new("thread", TaskKind::User { interval, clock }, program)
    }

    /// The same under another name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The same on another CPU.
    #[must_use]
    pub fn on(mut self, cpu: CpuId) -> Self {
        self.cpu = cpu;
        self
    }

    /// The same, starting later.
    #[must_use]
    pub fn starting_at(mut self, start: Nanos) -> Self {
        self.start = start;
        self
    }

    fn new(name: &str, kind: TaskKind, program: Program) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            program,
            cpu: CpuId(0),
            start: Nanos::ZERO,
            noise: None,
            migrate_every: None,
            kill_at: None,
            work_after_wait: Nanos::ZERO,
            preempted_after_wait: Nanos::ZERO,
        }
    }
}

impl Scenario {
    /// A machine with these threads: default costs, a tick at the start, a simulated minute.
    #[must_use]
    pub fn new(topology: Topology, tasks: Vec<TaskSpec>) -> Self {
        Self {
            topology,
            hardware: Hardware::default(),
            costs: Costs::default(),
            tick_phase: Nanos::ZERO,
            slice: Nanos::from_millis(3),
            worker_wakeup: WorkerWakeup::default(),
            starved_workers: Vec::new(),
            tasks,
            seed: 0,
            horizon: Nanos::from_secs(60),
            until: Until::AllStuck,
            trace_spans: 0,
        }
    }

    /// One thread on one CPU.
    #[must_use]
    pub fn single(task: TaskSpec) -> Self {
        Self::new(Topology::SINGLE, vec![task])
    }

    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        let costs = &self.costs;
        for (field, time, least) in [
            ("horizon", self.horizon, 1),
            ("tick_phase", self.tick_phase, 0),
            ("slice", self.slice, 1),
            ("trap", costs.trap, 0),
            ("wakeup", costs.wakeup, 0),
            ("kworker", costs.kworker, 0),
            ("vmm_loop", costs.vmm_loop, 0),
            ("signal_handler", costs.signal_handler, 0),
        ] {
            check_time(field, time, least)?;
        }
        if self.tasks.is_empty() || self.tasks.len() > ScenarioError::MOST_TASKS {
            return Err(ScenarioError::Tasks(self.tasks.len()));
        }
        if let Until::Runs(_) = self.until
            && self.tasks[0].kind.period().is_none()
        {
            return Err(ScenarioError::EndlessRun);
        }
        let cpus = self.topology.cpus();
        let used = self.tasks.iter().map(|task| &task.cpu);
        let mut used = used.chain(&self.starved_workers);
        if let Some(&CpuId(cpu)) = used.find(|cpu| cpu.0 >= cpus) {
            return Err(ScenarioError::NoSuchCpu { cpu, cpus });
        }
        self.tasks.iter().try_for_each(TaskSpec::check)
    }
}

impl TaskSpec {
    fn check(&self) -> Result<(), ScenarioError> {
        check_time("start", self.start, 0)?;
        check_time("work_after_wait", self.work_after_wait, 0)?;
        check_time("preempted_after_wait", self.preempted_after_wait, 0)?;
        for (field, time, least) in [
            ("period", self.kind.period(), 1),
            ("noise", self.noise, 1),
            ("migrate_every", self.migrate_every, 1),
            ("kill_at", self.kill_at, 0),
        ] {
            if let Some(time) = time {
                check_time(field, time, least)?;
            }
        }
        Ok(())
    }
}

fn check_time(field: &'static str, time: Nanos, least: u64) -> Result<(), ScenarioError> {
    if time.0 < least {
        return Err(ScenarioError::Zero(field));
    }
    if time > Nanos::LONGEST {
        return Err(ScenarioError::TooLong { field, time });
    }
    Ok(())
}

/// A scenario that cannot be simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// A time that has to be more than nothing.
    #[error("{0}: has to be more than 0")]
    Zero(&'static str),
    /// A time too long to compute with.
    #[error("{field}: {time} is longer than {longest}", longest = Nanos::LONGEST)]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its value.
        time: Nanos,
    },
    /// No threads, or too many.
    #[error("tasks: {0} threads are not between 1 and {most}", most = ScenarioError::MOST_TASKS)]
    Tasks(usize),
    /// A CPU that the machine does not have.
    #[error("cpu: there is no CPU {cpu} among {cpus}")]
    NoSuchCpu {
        /// The CPU.
        cpu: u32,
        /// How many there are.
        cpus: u32,
    },
    /// Runs are to be counted, but nothing ends them.
    #[error("until: the first thread's runs have no budget, so none ever ends")]
    EndlessRun,
    /// A machine that cannot exist.
    #[error(transparent)]
    Topology(#[from] crate::machine::TopologyError),
    /// A program that cannot run.
    #[error(transparent)]
    Program(#[from] super::program::ProgramError),
}

impl ScenarioError {
    /// The most threads a scenario takes.
    pub const MOST_TASKS: usize = 65_536;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_simulated_names_the_field() {
        let message = |change: fn(&mut Scenario)| {
            let guest = Program::split_loop(Nanos(500)).expect("a program");
            let budget = Budget::Relative(Nanos::from_millis(1));
            let mut scenario = Scenario::single(TaskSpec::vcpu(guest, budget));
            assert_eq!(scenario.check(), Ok(()));
            change(&mut scenario);
            scenario.check().expect_err("refused").to_string()
        };
        assert!(message(|s| s.horizon = Nanos::ZERO).starts_with("horizon:"));
        assert!(message(|s| s.horizon = Nanos::NEVER).starts_with("horizon:"));
        assert!(message(|s| s.slice = Nanos::ZERO).starts_with("slice:"));
        assert!(message(|s| s.tick_phase = Nanos::NEVER).starts_with("tick_phase:"));
        assert!(message(|s| s.costs.wakeup = Nanos::NEVER).starts_with("wakeup:"));
        assert!(message(|s| s.tasks.clear()).starts_with("tasks:"));
        assert!(message(|s| s.tasks[0].cpu = CpuId(1)).starts_with("cpu:"));
        assert!(message(|s| s.starved_workers.push(CpuId(9))).starts_with("cpu:"));
        assert!(message(|s| s.tasks[0].noise = Some(Nanos::ZERO)).starts_with("noise:"));
        assert!(message(|s| s.tasks[0].start = Nanos::NEVER).starts_with("start:"));
        let work = |s: &mut Scenario| s.tasks[0].work_after_wait = Nanos::NEVER;
        assert!(message(work).starts_with("work_after_wait:"));
        let preempted = |s: &mut Scenario| s.tasks[0].preempted_after_wait = Nanos::NEVER;
        assert!(message(preempted).starts_with("preempted_after_wait:"));
        let unbounded = |s: &mut Scenario| {
            s.tasks[0].kind = TaskKind::Vcpu(Budget::Unbounded);
            s.until = Until::Runs(1);
        };
        assert!(message(unbounded).starts_with("until:"));
        let no_time = |s: &mut Scenario| {
            s.tasks[0].kind = TaskKind::User {
                interval: Some(Nanos::ZERO),
                clock: TimerClock::Cpu,
            };
        };
        assert!(message(no_time).starts_with("period:"));
    }
}
