//! Windows: how many split locks a thread executes in each, if it splits without pause. Counted in the CPU's journal,
//! and by the model from the kernel's rules, the cost of a bus lock, and what the machine did otherwise: a window that
//! opened late in its tick, and time that the thread did not have the CPU.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use split_lock_lab::cpu::journal::Journal;
use split_lock_lab::cpu::options::Vendor;
use split_lock_lab::cpu::script::Command;
use split_lock_lab::cpu::windows::{Window, windows};
use split_lock_model::handler::TrapOrigin;
use split_lock_model::kernel::{Profile, Release};
use split_lock_model::sim::{
    Budget, Costs, Program, Scenario, SpanKind, TaskSpec, Track, Until, WorkerWakeup, simulate,
};
use split_lock_model::time::{Hz, Jiffies, Nanos};

use crate::host::args::WindowsArgs;
use crate::host::kernel::BootKernel;
use crate::host::kernel::config::Kvm;
use crate::host::machine::bochs::{Limits, Outcome};
use crate::host::machine::lab::Lab;
use crate::host::machine::runner::{self, Findings, Scene};
use crate::host::output;

const TICK: &str = "tick";
const PROGRAM: &str = "program";
const GUEST: &str = "guest";

const LIMITS: Limits = Limits::in_seconds(120, 600);

/// A kernel that has just booted has more to do than a window's worker.
const SETTLE_MS: u64 = 2000;

/// The serial line's driver suspends it half a second after the last output, in the worker that ends windows too.
const START_AFTER_MS: u64 = 1000;

/// So many windows of 12 ms are enough for all split locks of a boot.
const WINDOWS: u32 = 32;
const WINDOW_NS: u32 = 12_000_000;

/// In the loops of `lab-split`: the split lock, a decrement and a jump.
const LOOP_INSTRUCTIONS: u64 = 3;

/// The most by which a window may differ.
const TOLERANCE: u32 = 1;

/// Whether all windows are as long as the model says.
pub(crate) fn run(args: &WindowsArgs) -> Result<bool> {
    let lab = Lab::open([1])?;
    let kernels = lab.kernels(&args.kernel)?;
    let scenes = kernels.iter().flat_map(|kernel| {
        let costs = args.bus_lock_ns.iter();
        costs.map(|&bus_lock_ns| scene(kernel, bus_lock_ns))
    });
    runner::run(&lab, scenes.collect())
}

fn scene(kernel: &BootKernel, bus_lock_ns: u32) -> Scene<'_> {
    let count = WINDOWS * WINDOW_NS.div_ceil(bus_lock_ns);
    let split = format!("/bin/lab-split --start-after-ms {START_AFTER_MS} --count {count}");
    let mut commands = vec![
        Command::new(TICK, "/bin/lab-split --tick-ns"),
        Command::new(PROGRAM, &split),
    ];
    let has_guest = kernel.kvm(Vendor::Intel) != Kvm::Missing;
    if has_guest {
        commands.push(Command::new(GUEST, &format!("{split} --guest")));
    }
    let judge = move |outcome: &Outcome, folder: &Path| {
        judge(&kernel.release, bus_lock_ns, has_guest, outcome, folder)
    };
    let name = format!("windows at {bus_lock_ns} ns");
    let mut scene = Scene::new(&name, kernel, LIMITS, commands, judge).with_kvm();
    scene.options.bus_lock_ns = bus_lock_ns;
    scene.options.journal_locks = true;
    scene.script.settle_ms = SETTLE_MS;
    scene
}

/// What one boot has shown.
#[derive(Debug, Serialize)]
struct Results<'a> {
    kernel: &'a str,
    hz: u32,
    bus_lock_ns: u32,
    series: Vec<Series>,
}

/// All windows of one origin, in order.
#[derive(Debug, Serialize)]
struct Series {
    origin: TrapOrigin,
    windows: Vec<Compared>,
    largest_difference: u32,
}

/// A window, measured and modelled.
#[derive(Clone, Copy, Debug, Serialize)]
struct Compared {
    /// Split locks in it.
    measured: u32,
    /// The same from the model: the one of both cases below that comes nearer.
    modelled: u32,
    /// In the model the worker had to wait for the CPU.
    worker_waited: bool,
    told: Told,
}

/// What the model is told of a window: when the thread did not have the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Told {
    /// How much later after its tick than usual it opened.
    late: Nanos,
    /// Until its last split lock, the time in which others had the CPU, or the kernel for itself.
    others: Nanos,
}

fn judge(
    release: &str,
    bus_lock_ns: u32,
    has_guest: bool,
    outcome: &Outcome,
    folder: &Path,
) -> Result<Findings> {
    let tick_ns: u64 = outcome
        .printed(TICK)?
        .trim()
        .parse()
        .context("lab-split --tick-ns")?;
    let hz = Hz::new((1_000_000_000 + tick_ns / 2).div_euclid(tick_ns.max(1)) as u32)?;
    outcome.printed(PROGRAM)?;
    let mut origins = vec![TrapOrigin::User];
    if has_guest {
        outcome.printed(GUEST)?;
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
        let windows = model.compare(measured(&all, origin), origin)?;
        let Some(largest_difference) = largest_difference(&windows) else {
            bail!("no window of a {} to compare", origin.name());
        };
        let text = format!("{}: {}", origin.name(), summary(&windows));
        findings.check(
            &format!("{text}; at most {largest_difference} apart"),
            largest_difference <= TOLERANCE,
        );
        results.series.push(Series {
            origin,
            windows,
            largest_difference,
        });
    }
    let file = folder.join("windows.json");
    output::write(&file, &serde_json::to_vec_pretty(&results)?)?;
    findings.say(&format!("  all of it: {}", file.display()));
    Ok(findings)
}

/// From its first window until before its last, in which it ends. Windows without a split lock between them count.
fn measured(all: &[Window], origin: TrapOrigin) -> &[Window] {
    let is_used = |window: &Window| locks(window, origin) > 0;
    let first = all.iter().position(is_used).unwrap_or(0);
    let last = all.iter().rposition(is_used).unwrap_or(0);
    &all[first..last]
}

fn locks(window: &Window, origin: TrapOrigin) -> u32 {
    match origin {
        TrapOrigin::User => window.program_locks,
        TrapOrigin::Guest => window.guest_locks,
    }
}

/// One thread that splits without pause, on a kernel of one CPU.
#[derive(Debug)]
struct Model {
    profile: Profile,
    worker_wakeup: WorkerWakeup,
    program: Program,
    instruction: Nanos,
    tick: Nanos,
}

/// Split locks in a window, by what the worker last did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expected {
    /// It woke up alone, so nothing is owed to it now.
    after_alone: u32,
    /// It had to wait.
    after_wait: u32,
}

impl Model {
    fn new(release: &str, hz: Hz, bus_lock_ns: u32, journal: &Journal) -> Result<Self> {
        let profile: Profile = release.parse()?;
        let (number, _) = Release::parse_prefix(release)?;
        let instruction = Nanos(1_000_000_000 / u64::from(journal.ticks_per_second));
        let rest = Nanos((LOOP_INSTRUCTIONS - 1) * instruction.0);
        let split = Nanos(u64::from(bus_lock_ns)).plus(instruction);
        Ok(Self {
            profile: profile.with_hz(hz),
            worker_wakeup: WorkerWakeup::of(number),
            program: Program::new(rest, 1, split)?,
            instruction,
            tick: hz.shortest_span(Jiffies(1)),
        })
    }

    fn compare(&self, windows: &[Window], origin: TrapOrigin) -> Result<Vec<Compared>> {
        let opened = |window: &Window| self.time(window.opened).0 % self.tick.0;
        let usual = median(windows.iter().map(opened)).unwrap_or(0);
        // They open soon after a tick, so few of them are much earlier than usual, and some much later.
        let early = self.tick.0 / 8;
        let late = |window| (opened(window) + self.tick.0 + early - usual) % self.tick.0;
        let compare = |window| {
            let late = Nanos(late(window).saturating_sub(early));
            self.compare_one(window, origin, late)
        };
        windows.iter().map(compare).collect()
    }

    fn time(&self, instructions: u64) -> Nanos {
        Nanos(instructions * self.instruction.0)
    }

    fn compare_one(&self, window: &Window, origin: TrapOrigin, late: Nanos) -> Result<Compared> {
        let measured = locks(window, origin);
        let until_last = self.time(window.last_lock - window.opened);
        let used = u64::from(measured.saturating_sub(1)) * self.program.turn().0;
        let told = Told {
            late,
            others: until_last.since(Nanos(used)),
        };
        let expected = self.expected(origin, told)?;
        let worker_waited =
            expected.after_alone.abs_diff(measured) < expected.after_wait.abs_diff(measured);
        Ok(Compared {
            measured,
            modelled: match worker_waited {
                true => expected.after_alone,
                false => expected.after_wait,
            },
            worker_waited,
            told,
        })
    }

    /// Which of both it is depends on what else the worker had to do before, of which the model knows nothing.
    fn expected(&self, origin: TrapOrigin, told: Told) -> Result<Expected> {
        let task = match origin {
            TrapOrigin::User => TaskSpec::user(self.program, None),
            TrapOrigin::Guest => TaskSpec::vcpu(self.program, Budget::Unbounded),
        };
        let costs = Costs::default();
        let scenario = Scenario {
            costs: Costs {
                wakeup: costs.wakeup.plus(told.late),
                ..costs
            },
            worker_wakeup: self.worker_wakeup,
            horizon: Nanos::from_millis(200),
            until: Until::Horizon,
            trace_spans: 1000,
            ..Scenario::single(TaskSpec {
                work_after_wait: told.others,
                ..task
            })
        };
        let timeline = simulate(&self.profile, &scenario)?.timeline;
        let spans = timeline.context("no timeline")?.spans;
        let mut in_windows = spans
            .iter()
            .filter(|span| span.track == Track::Task(0) && span.kind == SpanKind::GuestUndetected);
        // A window begins and ends with a split lock.
        let (turn, rest) = (self.program.turn(), self.program.compute());
        let mut next = || {
            let span = in_windows.next()?;
            Some((span.end.since(span.start).plus(rest).0 / turn.0) as u32)
        };
        Ok(Expected {
            after_alone: next().context("the model has no window")?,
            after_wait: next().context("the model has no second window")?,
        })
    }
}

/// In a window, or between the medians: windows in which the worker waits are the fewer.
fn largest_difference(windows: &[Compared]) -> Option<u32> {
    let apart = |window: &Compared| window.measured.abs_diff(window.modelled);
    let largest = windows.iter().map(apart).max()?;
    let usual = windows.iter().filter(|window| !window.worker_waited);
    let usual = median(usual.map(|window| window.modelled))?;
    let median = median(windows.iter().map(|window| window.measured))?;
    Some(largest.max(median.abs_diff(usual)))
}

fn median<T: Copy + Ord>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut sorted: Vec<T> = values.collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

/// Least, median and most, measured and modelled.
fn summary(windows: &[Compared]) -> String {
    let of = |locks: fn(&Compared) -> u32| {
        let locks = windows.iter().map(locks);
        let numbers = [locks.clone().min(), median(locks.clone()), locks.max()];
        numbers
            .map(|number| number.unwrap_or(0).to_string())
            .join("/")
    };
    let waited = windows.iter().filter(|window| window.worker_waited);
    format!(
        "{} measured, {} modelled in {} windows, {} of them longer because the worker waited",
        of(|window| window.measured),
        of(|window| window.modelled),
        windows.len(),
        waited.count()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(release: &str, hz: Hz, bus_lock_ns: u32) -> Model {
        let journal = Journal {
            ticks_per_second: 200_000_000,
            cpus: 1,
            events: Vec::new(),
            totals: None,
        };
        Model::new(release, hz, bus_lock_ns, &journal).expect("a model")
    }

    fn window(program_locks: u32, guest_locks: u32) -> Window {
        Window {
            cpu: 0,
            opened: 0,
            last_lock: 0,
            closed: 0,
            program_locks,
            guest_locks,
        }
    }

    #[test]
    fn window_that_is_not_used_counts() {
        let all = [(0, 0), (8, 0), (0, 0), (8, 0), (3, 0), (0, 8), (0, 2)]
            .map(|(program_locks, guest_locks)| window(program_locks, guest_locks));
        assert_eq!(measured(&all, TrapOrigin::User), &all[1..4]);
        assert_eq!(measured(&all, TrapOrigin::Guest), &all[5..6]);
        assert!(measured(&all[..1], TrapOrigin::User).is_empty());
    }

    fn difference(windows: &[(u32, u32, bool)]) -> Option<u32> {
        let windows: Vec<_> = windows
            .iter()
            .map(|&(measured, modelled, worker_waited)| Compared {
                measured,
                modelled,
                worker_waited,
                told: Told::default(),
            })
            .collect();
        largest_difference(&windows)
    }

    #[test]
    fn windows_differ_by_the_largest_difference_of_one() {
        let windows = [(120, 120, false), (119, 120, false), (158, 160, true)];
        assert_eq!(difference(&windows), Some(2));
        assert_eq!(difference(&[]), None);
    }

    #[test]
    fn usual_window_cannot_be_the_longer_one() {
        let windows = [(160, 160, true), (160, 160, true), (120, 120, false)];
        assert_eq!(difference(&windows), Some(40));
        assert_eq!(difference(&windows[..2]), None);
    }

    #[test]
    fn time_of_others_is_told_and_what_is_left_is_modelled() {
        let model = model("6.12.117+deb12-cloud-amd64", Hz::HZ_250, 100_000);
        // Split locks take 100.015 us, and the last begins 11.9 ms after the window has opened.
        let window = Window {
            last_lock: 2_380_000,
            ..window(118, 0)
        };
        let compared = model.compare(&[window], TrapOrigin::User);
        let [compared] = compared.expect("a comparison")[..] else {
            panic!("one window")
        };
        let told = Told {
            late: Nanos::ZERO,
            others: Nanos(11_900_000 - 117 * 100_015),
        };
        assert_eq!(compared.told, told);
        assert_eq!((compared.modelled, compared.worker_waited), (118, false));
    }

    #[test]
    fn late_window_ends_with_the_same_tick() {
        let model = model("6.12.117+deb12-cloud-amd64", Hz::HZ_1000, 100_000);
        let turn = 20_003;
        let windows = [(600_000, 30), (1_800_200, 30), (3_140_000, 24)].map(|(opened, locks)| {
            let last_lock = opened + u64::from(locks - 1) * turn;
            Window {
                opened,
                last_lock,
                ..window(locks, 0)
            }
        });
        let compared = model
            .compare(&windows, TrapOrigin::User)
            .expect("a comparison");
        let late: Vec<_> = compared.iter().map(|window| window.told.late.0).collect();
        assert_eq!(late, [0, 0, 699_000]);
        let modelled: Vec<_> = compared.iter().map(|window| window.modelled).collect();
        assert_eq!(modelled, [30, 30, 24]);
    }

    #[test]
    fn windows_follow_the_cost_of_a_bus_lock_and_the_scheduler() {
        let expected = |release, hz, bus_lock_ns| {
            let model = model(release, hz, bus_lock_ns);
            let expected = model.expected(TrapOrigin::User, Told::default());
            let Expected {
                after_alone,
                after_wait,
            } = expected.expect("windows");
            (after_alone, after_wait)
        };
        let debian = "6.12.117+deb12-cloud-amd64";
        assert_eq!(expected(debian, Hz::HZ_250, 100_000), (160, 120));
        assert_eq!(expected(debian, Hz::HZ_1000, 700_000), (6, 5));
        let older = "6.1.0-57-cloud-amd64";
        assert_eq!(expected(older, Hz::HZ_250, 1_500_000), (8, 8));
        let newer = "7.3.4+deb13-cloud-amd64";
        assert_eq!(expected(newer, Hz::HZ_250, 100_000), (127, 120));
    }
}
