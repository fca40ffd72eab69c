//! The closed forms against the simulator, and against the table that people work with.

use split_lock_model::analysis::{Outlook, Thresholds, signal_delay_uninterruptible};
use split_lock_model::kernel::Profile;
use split_lock_model::machine::{CpuId, Hardware, Topology};
use split_lock_model::policy::Alternative;
use split_lock_model::sim::{
    Budget, Costs, Program, Report, Scenario, TaskSpec, Until, simulate, simulate_policy,
};
use split_lock_model::time::{Hz, Jiffies, Nanos, TickClock};

const SPLIT: Nanos = Nanos(500);

fn kernels() -> impl Iterator<Item = Profile> {
    let eras = ["6.6", "6.12"].map(|text| text.parse::<Profile>().expect("a profile"));
    eras.into_iter()
        .flat_map(|kernel| Hz::ALL.map(|hz| kernel.with_hz(hz)))
}

fn limits(kernel: &Profile) -> Thresholds {
    Thresholds::of(kernel).expect("a kernel that sleeps")
}

fn guest() -> Program {
    Program::split_loop(SPLIT).expect("a program")
}

fn alone(period: Nanos, phase: Nanos, until: Until) -> Scenario {
    let mut scenario = Scenario::single(TaskSpec::vcpu(guest(), Budget::Relative(period)));
    scenario.costs = Costs::ZERO;
    scenario.tick_phase = phase;
    scenario.until = until;
    scenario
}

fn quarter_milliseconds(up_to: Nanos) -> impl Iterator<Item = Nanos> {
    (1..)
        .map(|n| Nanos(n * 250_000))
        .take_while(move |&period| period <= up_to)
}

/// A dense grid over the ticks' pattern, and both sides of every edge: a tick at the trap, and at
/// the signal.
fn phases(hz: Hz, period: Nanos) -> Vec<Nanos> {
    let pattern = hz.pattern().0;
    let mut phases: Vec<_> = (0..40).map(|n| n * pattern / 40).collect();
    for tick in 0..3 {
        let tick = tick * 1_000_000_000 / u64::from(hz.get());
        for edge in [tick, period.0 + tick] {
            phases.extend([edge, edge + 1, edge + pattern - 1].map(|phase| phase % pattern));
        }
    }
    phases.into_iter().map(Nanos).collect()
}

#[test]
fn the_table() {
    // HZ, T, (sleep], (window], cycle, share of time off in thousandths, never up to, always from:
    // for kernels before 6.12, then since. Times in microseconds, rounded down.
    let expected = [
        (
            100,
            [2, 1],
            [(20000, 30000), (10000, 20000)],
            (20000, 30000),
            [60000, 50000],
            [500, 600],
            [(10000, 20000), (0, 10000)],
        ),
        (
            250,
            [4, 3],
            [(16000, 20000), (12000, 16000)],
            (8000, 12000),
            [32000, 28000],
            [375, 428],
            [(12000, 16000), (8000, 12000)],
        ),
        (
            300,
            [4, 3],
            [(13333, 16666), (10000, 13333)],
            (6666, 10000),
            [26666, 23333],
            [375, 428],
            [(10000, 13333), (6666, 10000)],
        ),
        (
            1000,
            [11, 10],
            [(11000, 12000), (10000, 11000)],
            (2000, 3000),
            [15000, 14000],
            [200, 214],
            [(10000, 11000), (9000, 10000)],
        ),
    ];
    let us = |(a, b): (Nanos, Nanos)| (a.0 / 1000, b.0 / 1000);
    for (hz, ticks, sleep, window, cycle, share, edges) in expected {
        for (era, release) in ["6.6", "6.12"].iter().enumerate() {
            let kernel: Profile = format!("{release},hz={hz}").parse().expect("a profile");
            let limits = limits(&kernel);
            let saturated = limits.saturated(1);
            assert_eq!(limits.sleep_ticks().0, ticks[era], "{kernel}");
            assert_eq!(us(limits.sleep()), sleep[era], "{kernel}");
            assert_eq!(us(limits.window()), window, "{kernel}");
            assert_eq!(
                kernel.hz().shortest_span(saturated.cycle).0 / 1000,
                cycle[era],
                "{kernel}"
            );
            let thousandths = saturated.share().favourable * 1000 / saturated.share().of;
            assert_eq!(thousandths, share[era], "{kernel}");
            assert_eq!(
                us((limits.never_up_to(), limits.always_from())),
                edges[era],
                "{kernel}"
            );
        }
    }
}

#[test]
fn one_trap_passes_exactly_where_the_closed_form_says() {
    let mut checked = 0;
    for kernel in kernels() {
        let limits = limits(&kernel);
        for period in quarter_milliseconds(Nanos::from_millis(24)) {
            for phase in phases(kernel.hz(), period) {
                let report =
                    simulate(&kernel, &alone(period, phase, Until::Runs(1))).expect("runs");
                let clock = TickClock::new(kernel.hz(), phase);
                let passes = limits.passes(clock, Nanos::ZERO, period);
                assert_eq!(
                    report.tasks[0].traps.window > 0,
                    passes,
                    "{kernel} {period} {phase}"
                );
                match limits.outlook(period) {
                    Outlook::Never => assert!(!passes, "{kernel} {period} {phase}"),
                    Outlook::Always => assert!(passes, "{kernel} {period} {phase}"),
                    Outlook::DependsOnPhase(_) => {}
                }
                checked += 1;
            }
        }
    }
    assert!(checked > 40_000, "only {checked}");
}

#[test]
fn the_chance_is_the_share_of_phases() {
    for kernel in kernels() {
        let limits = limits(&kernel);
        for period in quarter_milliseconds(Nanos::from_millis(24)) {
            let Outlook::DependsOnPhase(chance) = limits.outlook(period) else {
                continue;
            };
            // Both sides are exact on a grid that divides the pattern, the period and the tick.
            let step = if kernel.hz() == Hz::HZ_300 {
                1_000
            } else {
                250_000 / 25
            };
            let points = kernel.hz().pattern().0 / step;
            let grid = (0..points).map(|n| Nanos(n * step));
            let total = points as f64;
            let passing = grid
                .filter(|&phase| {
                    let clock = TickClock::new(kernel.hz(), phase);
                    limits.passes(clock, Nanos::ZERO, period)
                })
                .count() as f64;
            let error = (passing / total - chance.as_f64()).abs();
            assert!(error <= 1.0 / total, "{kernel} {period}: {error}");
            assert!(
                chance.favourable > 0 && chance.favourable < chance.of,
                "{kernel} {period}"
            );
        }
    }
}

#[test]
fn below_the_threshold_it_is_a_livelock_at_every_phase_and_above_never() {
    for kernel in kernels() {
        let limits = limits(&kernel);
        for period in quarter_milliseconds(Nanos::from_millis(24)) {
            for phase in phases(kernel.hz(), period).into_iter().step_by(3) {
                let report = simulate(&kernel, &alone(period, phase, Until::Cycle)).expect("runs");
                let stuck = report.tasks[0].verdict.is_livelock();
                match limits.outlook(period) {
                    Outlook::Never => assert!(stuck, "{kernel} {period} {phase}"),
                    Outlook::Always => assert!(!stuck, "{kernel} {period} {phase}"),
                    Outlook::DependsOnPhase(_) => {}
                }
            }
        }
    }
}

/// A thread with a period on the last CPU, and threads that split without pause on the others.
fn against(kernel: &Profile, others: u32, period: Option<Nanos>, seed: u64) -> Report {
    let (mut state, tick) = (seed, 1_000_000_000 / u64::from(kernel.hz().get()));
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let cycle = limits(kernel).saturated(others).cycle.0;
    let mut tasks: Vec<_> = (0..others)
        .map(|cpu| {
            let start = Nanos(random(cycle) * tick + random(tick));
            TaskSpec::user(guest(), None)
                .on(CpuId(cpu))
                .starting_at(start)
        })
        .collect();
    if let Some(period) = period {
        let settled = 3 * cycle * tick;
        let start = Nanos(settled + random(cycle) * tick + random(3) * tick / 4);
        let vcpu = TaskSpec::vcpu(guest(), Budget::Relative(period));
        tasks.push(vcpu.on(CpuId(others)).starting_at(start));
    }
    let mut scenario = Scenario::new(Topology::new(others + 1, 1).expect("a machine"), tasks);
    scenario.costs = Costs::ZERO;
    scenario.until = Until::Cycle;
    scenario.horizon = Nanos::from_secs(15);
    simulate(kernel, &scenario).expect("runs")
}

#[test]
fn saturating_threads_share_the_semaphore_as_computed() {
    for kernel in kernels() {
        for threads in 1..=7 {
            let report = against(&kernel, threads, None, threads.into());
            let (cycle, saturated) = (
                report.cycle.expect("repeats"),
                limits(&kernel).saturated(threads),
            );
            let ticks = |n: u64| kernel.hz().shortest_span(Jiffies(n));
            for task in &report.tasks {
                let share = task.cycle.expect("a share");
                // Windows per proved cycle, exactly: one per saturated cycle.
                let rounds = share.traps.window;
                assert_eq!(
                    cycle.period,
                    ticks(rounds * saturated.cycle.0),
                    "{kernel} {threads}"
                );
                let splits = kernel
                    .hz()
                    .longest_span(Jiffies(rounds * saturated.window.0))
                    .0
                    / SPLIT.0;
                assert!(
                    share.turns.abs_diff(splits) <= 2 * rounds,
                    "{kernel} {threads}"
                );
            }
        }
    }
}

#[test]
fn contention_moves_the_threshold_as_computed() {
    for kernel in kernels() {
        let tick = kernel.hz().longest_span(Jiffies(1)).0;
        for others in 1..=7 {
            let contended = limits(&kernel).contended(others);
            for seed in 0..12 {
                let stuck = |period: u64| {
                    let report = against(&kernel, others, Some(Nanos(period)), seed);
                    let task = &report.tasks[others as usize];
                    // Many threads can take longer to repeat than this test has patience.
                    task.verdict.is_livelock() || task.turns == 0
                };
                if contended.never_up_to > Nanos::ZERO {
                    let never = contended.never_up_to.0;
                    assert!(stuck(never), "{kernel} {others}: {never} is never enough");
                    assert!(
                        stuck(never - tick / 4),
                        "{kernel} {others}: {never} - 1/4 tick"
                    );
                }
                for more in 0..4 {
                    let safe = contended.safe_from.0 + more * tick / 4;
                    assert!(!stuck(safe), "{kernel} {others}: {safe} is safe");
                }
            }
        }
    }
}

/// All others line up just before the thread's first trap, right after a tick.
fn ambushed(
    kernel: &Profile,
    others: u32,
    period: Nanos,
    until: Nanos,
    rules: Alternative,
) -> Report {
    let mut tasks: Vec<_> = (0..others)
        .map(|cpu| TaskSpec::user(guest(), None).on(CpuId(cpu)))
        .collect();
    tasks.push(TaskSpec::vcpu(guest(), Budget::Relative(period)).on(CpuId(others)));
    let topology = Topology::new(others + 1, 1).expect("a machine");
    let mut scenario = Scenario::new(topology, tasks);
    scenario.costs = Costs::ZERO;
    scenario.horizon = until;
    scenario.until = Until::Horizon;
    let policy = rules
        .handler(kernel, topology, Hardware::default())
        .expect("a policy");
    simulate_policy(policy, kernel.hz(), &scenario).expect("runs")
}

#[test]
fn the_first_trap_survives_an_ambush_from_the_computed_period_on() {
    for kernel in kernels() {
        for others in 1..=5 {
            let safe = limits(&kernel).contended(others).first_trap_safe_from;
            let first = |period| {
                let report = ambushed(&kernel, others, period, safe, Alternative::Upstream);
                let traps = report.tasks[others as usize].traps;
                (traps.window, traps.cut_queued)
            };
            assert_eq!(first(safe), (1, 0), "{kernel} {others}");
            assert_eq!(first(Nanos(safe.0 - 1_000)), (0, 1), "{kernel} {others}");
        }
    }
}

#[test]
fn deaf_waits_delay_signals_as_computed_and_no_longer() {
    for kernel in kernels() {
        for others in 0..=5 {
            let bound = signal_delay_uninterruptible(&limits(&kernel), others);
            // The signal comes 1 us after the trap.
            let (period, until) = (Nanos::from_micros(1), bound.plus(Nanos::from_millis(1)));
            let report = ambushed(&kernel, others, period, until, Alternative::Uninterruptible);
            let worst = report.tasks[others as usize].worst_signal_delay;
            assert!(worst <= bound, "{kernel} {others}: {worst} > {bound}");
            assert!(
                worst.0 + 2_000 >= bound.0,
                "{kernel} {others}: {worst} << {bound}"
            );
        }
    }
}
