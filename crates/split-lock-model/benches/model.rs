//! How fast the model is. `cargo bench -p split-lock-model`
//!
//! Prints medians and ratios; asserts nothing, because times depend on the machine.

use std::hint::black_box;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use rayon::prelude::*;
use split_lock_model::kernel::{Mode, Profile};
use split_lock_model::machine::{CpuId, Topology};
use split_lock_model::progress::ProgressPlan;
use split_lock_model::sim::{Budget, Program, Report, Scenario, TaskSpec, Until, simulate};
use split_lock_model::time::{Hz, Nanos};

const SPLIT: Nanos = Nanos(500);

fn kernel(text: &str) -> Profile {
    text.parse().expect("a profile")
}

fn guest() -> Program {
    Program::split_loop(SPLIT).expect("a program")
}

fn median(times: usize, mut work: impl FnMut()) -> Duration {
    let mut samples: Vec<_> = (0..times)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    samples.sort_unstable();
    samples[times / 2]
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn progress() {
    let plan = ProgressPlan::for_guest(SPLIT).expect("a plan");
    for text in ["6.6,hz=1000", "6.1,hz=250", "6.12,hz=300"] {
        let kernel = kernel(text);
        let curves = [kernel.with_mode(Mode::Off).expect("off"), kernel];
        let time = median(101, || {
            for kernel in black_box(&curves) {
                black_box(plan.runs(kernel).expect("runs"));
            }
        });
        println!(
            "progress, {text}: {:.3} ms (49 timeouts, both curves, 5 runs each)",
            ms(time)
        );
    }
}

/// A VMM alone, and one among threads that split without pause.
fn machine(threads: u32, seconds: u64) -> Scenario {
    let mut tasks: Vec<_> = (1..threads)
        .map(|cpu| TaskSpec::user(guest(), None).on(CpuId(cpu)))
        .collect();
    tasks.push(TaskSpec::vcpu(
        guest(),
        Budget::Relative(Nanos::from_millis(7)),
    ));
    let mut scenario = Scenario::new(Topology::new(threads, 1).expect("a machine"), tasks);
    scenario.until = Until::Horizon;
    scenario.horizon = Nanos::from_secs(seconds);
    scenario
}

fn events() {
    let kernel = kernel("6.6,hz=250");
    for threads in [1, 2, 8, 64] {
        let scenario = machine(threads, 1_000);
        let mut events = 0;
        let time = median(7, || {
            events = simulate(&kernel, &scenario).expect("runs").events;
        });
        let per_second = events as f64 / time.as_secs_f64() / 1e6;
        println!("events, {threads} threads: {per_second:.1} million a second ({events} events)");
    }
}

/// The kernel's count of the most memory this process ever had, in KiB.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn linear() {
    let kernel = kernel("6.6,hz=250");
    let mut first = None;
    for seconds in [10, 100, 1_000, 10_000, 100_000] {
        let scenario = machine(4, seconds);
        let mut events = 0;
        let time = median(if seconds < 10_000 { 9 } else { 3 }, || {
            events = simulate(&kernel, &scenario).expect("runs").events;
        });
        let per_event = time.as_secs_f64() * 1e9 / events as f64;
        let first = *first.get_or_insert(per_event);
        let memory = peak_memory().map_or("unknown".to_owned(), |kib| format!("{kib} KiB"));
        println!(
            "{seconds} s simulated: {events} events, {per_event:.1} ns each ({:.2} of the first), \
             peak memory of the process {memory}",
            per_event / first
        );
    }
}

fn sweep() {
    const SCENARIOS: u64 = 1_000_000;
    let kernels: Vec<_> = ["6.6", "6.12"]
        .iter()
        .flat_map(|text| Hz::ALL.map(|hz| kernel(text).with_hz(hz)))
        .collect();
    let one = |n: u64| -> Report {
        let timeout = Nanos::from_micros(250 * (1 + n / 8 % 196));
        let mut scenario = Scenario::single(TaskSpec::vcpu(guest(), Budget::Relative(timeout)));
        scenario.tick_phase = Nanos(n.wrapping_mul(7_919) % 10_000_000);
        scenario.horizon = Nanos::from_secs(1);
        simulate(&kernels[(n % 8) as usize], &scenario).expect("runs")
    };
    // Shown on a terminal only.
    let progress = ProgressBar::new(SCENARIOS);
    let start = Instant::now();
    let (stuck, events) = (0..SCENARIOS)
        .into_par_iter()
        .map(|n| {
            let report = one(n);
            if n % 1_000 == 0 {
                progress.inc(1_000);
            }
            (u64::from(report.tasks[0].turns == 0), report.events)
        })
        .reduce(|| (0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    let (time, threads) = (start.elapsed(), rayon::current_num_threads());
    progress.finish_and_clear();
    println!(
        "sweep: {SCENARIOS} scenarios of 1 s ({events} events, {stuck} without progress) in \
         {:.1} s on {threads} threads",
        time.as_secs_f64()
    );
}

fn main() {
    progress();
    events();
    linear();
    sweep();
}
