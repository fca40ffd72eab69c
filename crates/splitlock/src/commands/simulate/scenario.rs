//! From arguments to a scenario of the model.

use std::time::Duration;

use anyhow::{Result, bail};
use split_lock_model::machine::{Hardware, Topology};
use split_lock_model::sim::{Budget, Program, Scenario, TaskSpec, TimerClock};
use split_lock_model::time::Nanos;

use crate::args::model::{BudgetKind, GuestKind, HardwareKind, SimulateArgs};

/// When the timed threads join those that split without pause: those have settled by then.
const JOIN: Nanos = Nanos::from_millis(100);

/// Timer signals of all threads together: some tens of seconds of work.
const MOST_STEPS: u128 = 20_000_000;

pub(super) fn scenario(args: &SimulateArgs, timeout: Duration) -> Result<Scenario> {
    let topology = topology(args)?;
    let subject = subject(args, timeout.into())?;
    let splitting = Program::split_loop(args.split_cost.into())?;
    let mut tasks = vec![];
    for n in 0..args.threads {
        let name = match args.threads {
            1 => subject.name.clone(),
            _ => format!("{} {n}", subject.name),
        };
        let start = if args.others > 0 { JOIN } else { Nanos::ZERO };
        let task = subject.clone().named(name);
        tasks.push(task.on(topology.spread(n)).starting_at(start));
    }
    for n in 0..args.others {
        // Not all at once, and all well before the timed ones join.
        let start = Nanos::from_micros(1_300 * u64::from(n) % 50_000);
        let other = TaskSpec::user(splitting, None).named(format!("other {n}"));
        let cpu = topology.spread(args.threads + n);
        tasks.push(other.on(cpu).starting_at(start));
    }
    let mut scenario = Scenario::new(topology, tasks);
    scenario.tick_phase = args.phase.into();
    scenario.horizon = args.horizon.into();
    scenario.seed = args.seed;
    scenario.hardware = match args.hardware {
        HardwareKind::IceLake => Hardware::ICE_LAKE,
        HardwareKind::SapphireRapids => Hardware::SAPPHIRE_RAPIDS,
        HardwareKind::Zen5 => Hardware::ZEN_5,
        HardwareKind::None => Hardware::NONE,
    };
    refuse_to_take_for_ever(&scenario)?;
    Ok(scenario)
}

/// A simulation always ends, but it should do so while somebody waits for it.
fn refuse_to_take_for_ever(scenario: &Scenario) -> Result<()> {
    let tasks = scenario.tasks.iter();
    let timers = tasks.flat_map(|task| [task.kind.period(), task.noise, task.migrate_every]);
    // Ticks go on whether or not there are timers.
    let shortest = timers.flatten().fold(Nanos::from_millis(1), Nanos::min);
    let steps = u128::from(scenario.horizon.0) / u128::from(shortest.0.max(1));
    let steps = steps * scenario.tasks.len() as u128;
    if steps > MOST_STEPS {
        bail!(
            "horizon: {} threads with something every {shortest} for {} take {steps} steps, and \
             {MOST_STEPS} is the limit: shorten --horizon",
            scenario.tasks.len(),
            scenario.horizon
        );
    }
    Ok(())
}

fn topology(args: &SimulateArgs) -> Result<Topology> {
    let threads = args.threads + args.others;
    let whole_cores = || threads.checked_next_multiple_of(args.smt.max(1));
    let cpus = args.cpus.or_else(whole_cores).unwrap_or(threads);
    Ok(Topology::new(cpus, args.smt)?)
}

fn subject(args: &SimulateArgs, timeout: Nanos) -> Result<TaskSpec> {
    let (compute, splits) = match args.guest {
        Some(GuestKind::Split) => (Duration::ZERO, 1),
        Some(GuestKind::Sparse(compute)) => (compute, 1),
        None => (args.compute, args.splits),
    };
    let program = Program::new(compute.into(), splits, args.split_cost.into())?;
    let budget = match args.budget {
        BudgetKind::Relative => Budget::Relative(timeout),
        BudgetKind::Absolute => Budget::Absolute(timeout),
        BudgetKind::Cpu => Budget::ThreadCpu(timeout),
        BudgetKind::None => Budget::Unbounded,
    };
    let mut task = match (args.user, args.budget) {
        (false, _) => TaskSpec::vcpu(program, budget),
        (true, BudgetKind::Cpu) => TaskSpec::program(program, budget.period(), TimerClock::Cpu),
        (true, _) => TaskSpec::user(program, budget.period()),
    };
    task.work_after_wait = args.work_after_wait.into();
    task.preempted_after_wait = args.preempted_after_wait.into();
    task.noise = args.noise.map(Nanos::from);
    task.migrate_every = args.migrate.map(Nanos::from);
    Ok(task)
}
