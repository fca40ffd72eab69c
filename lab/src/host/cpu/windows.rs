//! Windows: how many split locks a thread executes in each, if it splits without pause. Counted in the CPU's journal,
//! and by the model from the kernel's rules and the two lengths that the machine is given.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use split_lock_lab::cpu::journal::Journal;
use split_lock_lab::cpu::options::CpuOptions;
use split_lock_lab::cpu::script::{Command, Script};
use split_lock_lab::cpu::windows::{Window, windows};
use split_lock_model::handler::TrapOrigin;
use split_lock_model::kernel::{Profile, Release};
use split_lock_model::sim::{
    Budget, Program, Scenario, SpanKind, TaskSpec, Track, Until, WorkerWakeup, simulate,
};
use split_lock_model::time::{Hz, Nanos};

use super::kernel::{BootKernel, KernelName};
use super::kernel_config::Kvm;
use super::lab::Lab;
use super::machine::{Limits, Outcome};
use super::rootfs;
use super::runner::{self, Findings, Scene};
use crate::host::args::WindowsArgs;
use crate::host::lab::output_of;
use crate::host::output;
use crate::host::step::step;

const TICK: &str = "tick";
const PROGRAM: &str = "program";
const GUEST: &str = "guest";

const LIMITS: Limits = Limits {
    guest: Duration::from_secs(120),
    wall: Duration::from_secs(600),
};

/// A kernel that has just booted has more to do than a window's worker.
const SETTLE_MS: u64 = 2000;

/// So many windows of 12 ms are enough for all split locks of a boot.
const WINDOWS: u32 = 32;
const WINDOW_NS: u32 = 12_000_000;

/// In the loops of `lab-split`: the split lock, a decrement and a jump.
const LOOP_INSTRUCTIONS: u64 = 3;

/// The most by which a window may differ.
const TOLERANCE: u32 = 1;

/// Whether all windows are as long as the model says.
pub(in crate::host) fn run(args: &WindowsArgs) -> Result<bool> {
    let lab = Lab::open([1])?;
    let get = |name: &KernelName| {
        step(&format!("kernel {name}"), || {
            BootKernel::get(name, &lab.cache)
        })
    };
    let kernels = args.kernel.iter().map(get).collect::<Result<Vec<_>>>()?;
    let scenes = kernels.iter().flat_map(|kernel| {
        let costs = args.bus_lock_ns.iter();
        costs.map(|&bus_lock_ns| scene(kernel, bus_lock_ns))
    });
    runner::run(&lab, scenes.collect())
}

fn scene(kernel: &BootKernel, bus_lock_ns: u32) -> Scene<'_> {
    let options = CpuOptions {
        bus_lock_ns,
        journal_locks: true,
        ..CpuOptions::default()
    };
    let count = WINDOWS * WINDOW_NS.div_ceil(bus_lock_ns);
    let mut commands = vec![
        Command::new(TICK, "/bin/lab-split --tick-ns"),
        Command::new(PROGRAM, &format!("/bin/lab-split --count {count}")),
    ];
    let has_guest = kernel.kvm(options.vendor) != Kvm::Missing;
    if has_guest {
        let guest = format!("/bin/lab-split --guest --count {count}");
        commands.push(Command::new(GUEST, &guest));
    }
    Scene {
        name: format!("windows at {bus_lock_ns} ns"),
        kernel,
        options,
        boot_words: "",
        script: Script {
            modules: rootfs::kvm_modules(kernel, options.vendor),
            settle_ms: SETTLE_MS,
            commands,
            ..Script::default()
        },
        limits: LIMITS,
        judge: Box::new(move |outcome, folder| {
            judge(&kernel.release, bus_lock_ns, has_guest, outcome, folder)
        }),
    }
}

/// What one boot has shown.
#[derive(Debug, Serialize)]
struct Results<'a> {
    kernel: &'a str,
    hz: u32,
    bus_lock_ns: u32,
    series: Vec<Series>,
}

/// Split locks of one origin in each window, in order.
#[derive(Debug, Serialize)]
struct Series {
    origin: TrapOrigin,
    measured: Vec<u32>,
    modelled: Vec<u32>,
    largest_difference: u32,
}

fn judge(
    release: &str,
    bus_lock_ns: u32,
    has_guest: bool,
    outcome: &Outcome,
    folder: &Path,
) -> Result<Findings> {
    let said = |name| -> Result<String> {
        let [said, complaints, code] = output_of(&outcome.bundles, name)?;
        ensure!(
            code == "0",
            "lab-split failed ({name}): {}",
            complaints.trim()
        );
        Ok(said)
    };
    let tick_ns: u64 = said(TICK)?.trim().parse().context("lab-split --tick-ns")?;
    let hz = Hz::new((1_000_000_000 + tick_ns / 2).div_euclid(tick_ns.max(1)) as u32)?;
    said(PROGRAM)?;
    let mut origins = vec![TrapOrigin::User];
    if has_guest {
        said(GUEST)?;
        origins.push(TrapOrigin::Guest);
    }
    let journal = &outcome.journal;
    let model = Model::new(release, hz, bus_lock_ns, journal)?;
    let mut findings = Findings::new(&format!(
        "\n{release}, {} Hz, {bus_lock_ns} ns a bus lock: split locks in a window",
        hz.get()
    ));
    let mut results = Results {
        kernel: release,
        hz: hz.get(),
        bus_lock_ns,
        series: Vec::new(),
    };
    let all = windows(journal);
    for origin in origins {
        let measured = measured(&all, origin);
        let modelled = model.windows(origin)?;
        let Some(largest_difference) = largest_difference(&measured, &modelled) else {
            bail!("no window of a {} to compare", origin.name());
        };
        findings.check(
            &format!(
                "{}: {} measured, {} modelled: at most {largest_difference} apart",
                origin.name(),
                summary(&measured),
                summary(&modelled)
            ),
            largest_difference <= TOLERANCE,
        );
        results.series.push(Series {
            origin,
            measured,
            modelled,
            largest_difference,
        });
    }
    let file = folder.join("windows.json");
    output::write(&file, &serde_json::to_vec_pretty(&results)?)?;
    findings.say(&format!("  all of it: {}", file.display()));
    Ok(findings)
}

/// From its first window until before its last, in which it ends. Windows without a split lock between them count.
fn measured(all: &[Window], origin: TrapOrigin) -> Vec<u32> {
    let locks = all.iter().map(|window| match origin {
        TrapOrigin::User => window.program_locks,
        TrapOrigin::Guest => window.guest_locks,
    });
    let mut locks: Vec<u32> = locks.skip_while(|&locks| locks == 0).collect();
    let last = locks.iter().rposition(|&locks| locks > 0);
    locks.truncate(last.unwrap_or(0));
    locks
}

/// One thread that splits without pause, on a kernel of one CPU.
#[derive(Debug)]
struct Model {
    profile: Profile,
    worker_wakeup: WorkerWakeup,
    program: Program,
}

impl Model {
    fn new(release: &str, hz: Hz, bus_lock_ns: u32, journal: &Journal) -> Result<Self> {
        let profile: Profile = release.parse()?;
        let (number, _) = Release::parse_prefix(release)?;
        let instruction = 1_000_000_000 / u64::from(journal.ticks_per_second);
        let rest = Nanos((LOOP_INSTRUCTIONS - 1) * instruction);
        let split = Nanos(u64::from(bus_lock_ns) + instruction);
        Ok(Self {
            profile: profile.with_hz(hz),
            worker_wakeup: WorkerWakeup::of(number),
            program: Program::new(rest, 1, split)?,
        })
    }

    /// Split locks in each window.
    fn windows(&self, origin: TrapOrigin) -> Result<Vec<u32>> {
        let task = match origin {
            TrapOrigin::User => TaskSpec::user(self.program, None),
            TrapOrigin::Guest => TaskSpec::vcpu(self.program, Budget::Unbounded),
        };
        let scenario = Scenario {
            worker_wakeup: self.worker_wakeup,
            horizon: Nanos::from_secs(1),
            until: Until::Horizon,
            trace_spans: 10_000,
            ..Scenario::single(task)
        };
        let timeline = simulate(&self.profile, &scenario)?.timeline;
        let spans = timeline.context("no timeline")?.spans;
        let in_windows = spans
            .iter()
            .filter(|span| span.track == Track::Task(0) && span.kind == SpanKind::GuestUndetected);
        // A window begins and ends with a split lock.
        let (turn, rest) = (self.program.turn(), self.program.compute());
        let mut locks: Vec<u32> = in_windows
            .map(|span| (span.end.since(span.start).plus(rest).0 / turn.0) as u32)
            .collect();
        locks.pop();
        Ok(locks)
    }
}

/// Between a window and the modelled one that comes nearest to it, or between the medians. In which windows the worker
/// has to wait depends on what else it had to do, of which the model knows nothing.
fn largest_difference(measured: &[u32], modelled: &[u32]) -> Option<u32> {
    let nearest = |locks: &u32| modelled.iter().map(|other| locks.abs_diff(*other)).min();
    let windows = measured.iter().filter_map(nearest).max()?;
    Some(windows.max(median(measured)?.abs_diff(median(modelled)?)))
}

fn median(locks: &[u32]) -> Option<u32> {
    let mut sorted = locks.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

/// Least, median and most.
fn summary(locks: &[u32]) -> String {
    let number = |number: Option<u32>| number.map_or("-".to_owned(), |number| number.to_string());
    format!(
        "{}/{}/{} in {} windows",
        number(locks.iter().min().copied()),
        number(median(locks)),
        number(locks.iter().max().copied()),
        locks.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_that_is_not_used_counts() {
        let window = |program_locks, guest_locks| Window {
            cpu: 0,
            opened: 0,
            closed: 1,
            program_locks,
            guest_locks,
        };
        let all = [(0, 0), (8, 0), (0, 0), (8, 0), (3, 0), (0, 8), (0, 2)]
            .map(|(program_locks, guest_locks)| window(program_locks, guest_locks));
        assert_eq!(measured(&all, TrapOrigin::User), [8, 0, 8]);
        assert_eq!(measured(&all, TrapOrigin::Guest), [8]);
        assert!(measured(&all[..1], TrapOrigin::User).is_empty());
    }

    #[test]
    fn windows_differ_by_the_nearest_modelled_one() {
        assert_eq!(
            largest_difference(&[120, 119, 159], &[160, 120, 120]),
            Some(1)
        );
        assert_eq!(
            largest_difference(&[120, 140, 120], &[160, 120, 120]),
            Some(20)
        );
    }

    #[test]
    fn usual_window_cannot_be_the_longer_one() {
        assert_eq!(
            largest_difference(&[160, 160, 120], &[160, 120, 120]),
            Some(40)
        );
    }

    #[test]
    fn no_window_is_no_agreement() {
        assert_eq!(largest_difference(&[], &[120]), None);
        assert_eq!(largest_difference(&[120], &[]), None);
    }

    #[test]
    fn model_follows_the_cost_of_a_bus_lock() {
        let journal = Journal {
            ticks_per_second: 200_000_000,
            cpus: 1,
            events: Vec::new(),
            totals: None,
        };
        let usual = |release: &str, hz, bus_lock_ns| {
            let model = Model::new(release, hz, bus_lock_ns, &journal).expect("a model");
            let windows = model.windows(TrapOrigin::User).expect("windows");
            median(&windows).expect("windows")
        };
        assert_eq!(
            usual("6.12.117+deb12-cloud-amd64", Hz::HZ_250, 100_000),
            120
        );
        assert_eq!(usual("6.1.0-57-cloud-amd64", Hz::HZ_250, 1_500_000), 8);
        assert_eq!(usual("7.3.4+deb13-cloud-amd64", Hz::HZ_1000, 700_000), 5);
    }
}
