//! The closed forms against the simulator, and against the table that people work with.

use split_lock_model::analysis::{PassPrediction, Thresholds};
use split_lock_model::kernel::Profile;
use split_lock_model::policy::Alternative;
use split_lock_model::random::SplitMix64;
use split_lock_model::sim::{Budget, Costs, Report, Scenario, TaskSpec, Until, simulate};
use split_lock_model::time::{Hz, Jiffies, Nanos, TickClock};

use crate::{SPLIT, guest, next_to_others, profile};

fn kernels() -> impl Iterator<Item = Profile> {
    let eras = ["6.6", "6.12"].map(profile);
    eras.into_iter()
        .flat_map(|kernel| Hz::ALL.map(|hz| kernel.with_hz(hz)))
}

fn limits(kernel: &Profile) -> Thresholds {
    Thresholds::of(kernel).expect("a kernel that sleeps")
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

/// Kernel, T, sleep, window, cycle, thousandths of the time off, never up to, always from. Times in
/// microseconds, rounded down; sleep and window last more than the first and at most the second.
const TABLE: &str = "\
6.6,hz=100    2   20000 30000  20000 30000  60000 500  10000 20000
6.12,hz=100   1   10000 20000  20000 30000  50000 600      0 10000
6.6,hz=250    4   16000 20000   8000 12000  32000 375  12000 16000
6.12,hz=250   3   12000 16000   8000 12000  28000 428   8000 12000
6.6,hz=300    4   13333 16666   6666 10000  26666 375  10000 13333
6.12,hz=300   3   10000 13333   6666 10000  23333 428   6666 10000
6.6,hz=1000  11   11000 12000   2000  3000  15000 200  10000 11000
6.12,hz=1000 10   10000 11000   2000  3000  14000 214   9000 10000";

#[test]
fn the_table_that_people_work_with() {
    for line in TABLE.lines() {
        let (kernel, numbers) = line.split_once(' ').expect("a kernel");
        let expected: Vec<u64> = numbers
            .split_whitespace()
            .map(|number| number.parse().expect("a number"))
            .collect();
        let kernel = profile(kernel);
        let limits = limits(&kernel);
        let saturated = limits.saturated(1);
        let (sleep, window) = (limits.sleep(), limits.window());
        let us = |time: Nanos| time.0 / 1000;
        let found = [
            limits.sleep_ticks().0,
            us(sleep.0),
            us(sleep.1),
            us(window.0),
            us(window.1),
            us(kernel.hz().shortest_span(saturated.cycle)),
            saturated.share().part * 1000 / saturated.share().whole,
            us(limits.never_up_to()),
            us(limits.always_from()),
        ];
        assert_eq!(found, *expected, "{kernel}");
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
                match limits.predict(period) {
                    PassPrediction::Never => assert!(!passes, "{kernel} {period} {phase}"),
                    PassPrediction::Always => assert!(passes, "{kernel} {period} {phase}"),
                    PassPrediction::DependsOnPhase(_) => {}
                }
                checked += 1;
            }
        }
    }
    assert!(checked > 40_000, "only {checked}");
}

#[test]
fn the_predicted_share_is_the_share_of_phases() {
    for kernel in kernels() {
        let limits = limits(&kernel);
        for period in quarter_milliseconds(Nanos::from_millis(24)) {
            let PassPrediction::DependsOnPhase(share) = limits.predict(period) else {
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
            let error = (passing / total - share.as_f64()).abs();
            assert!(error <= 1.0 / total, "{kernel} {period}: {error}");
            assert!(
                share.part > 0 && share.part < share.whole,
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
                match limits.predict(period) {
                    PassPrediction::Never => assert!(stuck, "{kernel} {period} {phase}"),
                    PassPrediction::Always => assert!(!stuck, "{kernel} {period} {phase}"),
                    PassPrediction::DependsOnPhase(_) => {}
                }
            }
        }
    }
}

/// A thread with a period on the last CPU, and threads that split without pause on the others.
fn against(kernel: &Profile, others: u32, period: Option<Nanos>, seed: u64) -> Report {
    let (mut random, tick) = (
        SplitMix64::new(seed),
        1_000_000_000 / u64::from(kernel.hz().get()),
    );
    let cycle = limits(kernel).saturated(others).cycle.0;
    let settled = 3 * cycle * tick;
    let start = Nanos(settled + random.below(cycle) * tick + random.below(3) * tick / 4);
    let vcpu = TaskSpec::vcpu(guest(), period.map_or(Budget::Unbounded, Budget::Relative));
    let mut scenario = next_to_others(others, guest(), vcpu.starting_at(start));
    for task in &mut scenario.tasks[..others as usize] {
        task.start = Nanos(random.below(cycle) * tick + random.below(tick));
    }
    if period.is_none() {
        scenario.tasks.pop();
    }
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
fn surrounded(
    kernel: &Profile,
    others: u32,
    period: Nanos,
    until: Nanos,
    rules: Alternative,
) -> Report {
    let vcpu = TaskSpec::vcpu(guest(), Budget::Relative(period));
    let mut scenario = next_to_others(others, guest(), vcpu);
    (scenario.costs, scenario.horizon) = (Costs::ZERO, until);
    scenario.until = Until::Horizon;
    rules.simulate(kernel, &scenario).expect("runs")
}

#[test]
fn the_first_trap_passes_all_others_from_the_computed_period_on() {
    for kernel in kernels() {
        for others in 1..=5 {
            let safe = limits(&kernel).contended(others).first_trap_safe_from;
            let first = |period| {
                let report = surrounded(&kernel, others, period, safe, Alternative::Upstream);
                let traps = report.tasks[others as usize].traps;
                (traps.window, traps.cut_queued)
            };
            assert_eq!(first(safe), (1, 0), "{kernel} {others}");
            assert_eq!(first(Nanos(safe.0 - 1_000)), (0, 1), "{kernel} {others}");
        }
    }
}

#[test]
fn uninterruptible_waits_delay_signals_as_computed_and_no_longer() {
    for kernel in kernels() {
        for others in 0..=5 {
            // T + 1 ticks of sleep, and 3 for every window before one's own.
            let limits = limits(&kernel);
            let ticks = limits.sleep_ticks().0 + 1 + 3 * u64::from(others);
            let bound = limits.hz().longest_span(Jiffies(ticks));
            // The signal comes 1 us after the trap.
            let (period, until) = (Nanos::from_micros(1), bound.plus(Nanos::from_millis(1)));
            let report = surrounded(&kernel, others, period, until, Alternative::Uninterruptible);
            let worst = report.tasks[others as usize].worst_signal_delay;
            assert!(worst <= bound, "{kernel} {others}: {worst} > {bound}");
            assert!(
                worst.0 + 2_000 >= bound.0,
                "{kernel} {others}: {worst} << {bound}"
            );
        }
    }
}
