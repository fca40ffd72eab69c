//! The project's own tools in the machine: sweeps against the real kernel's punishment, with and
//! without a guard, the doctor, and the kernel's log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use split_lock_lab::bundle::Bundles;
use split_lock_lab::plan::{GuestCommand, Plan};
use split_lock_model::analysis::Thresholds;
use split_lock_model::kernel::Profile;
use split_lock_model::time::{Jiffies, Nanos};

use super::args::ToolsArgs;
use super::initramfs::{GUEST, Programs};
use super::kernel::Kernel;
use super::lab::{Prepared, bytes, output_of};
use super::machine::Shape;
use super::{output, programs};

/// A sweep in the machine.
struct Sweep {
    name: &'static str,
    /// What was switched, for the legend.
    setting: &'static str,
    detection: bool,
    mitigate: bool,
    level: &'static str,
    guard: &'static str,
    progress: Progress,
}

/// At which timeouts the guest has to get on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// At all, from the first on.
    Always,
    /// At all, and a turn in two milliseconds at least: one for each run's only signal would be too few.
    InProportion,
    /// At none that is never enough for the kernel's sleep, and at those that outlast it by a tick.
    PastTheSleep,
}

/// The kernel's default, and nobody to help.
const WARN: Sweep = Sweep {
    name: "warn",
    setting: "warn",
    detection: true,
    mitigate: true,
    level: "cpl0",
    guard: "off",
    progress: Progress::PastTheSleep,
};

const SWEEPS: [Sweep; 5] = [
    Sweep {
        name: "off",
        setting: "no detection",
        detection: false,
        progress: Progress::InProportion,
        ..WARN
    },
    WARN,
    Sweep {
        name: "emulated",
        setting: "warn",
        guard: "emulate",
        progress: Progress::InProportion,
        ..WARN
    },
    Sweep {
        name: "emulated-cpl3",
        setting: "warn",
        guard: "emulate",
        level: "cpl3",
        progress: Progress::InProportion,
        ..WARN
    },
    Sweep {
        name: "unmitigated",
        setting: "warn with mitigate=0",
        mitigate: false,
        progress: Progress::Always,
        ..WARN
    },
];

/// From 1 to 24 ms.
const TIMEOUTS: usize = 24;

const NANOS_PER_MS: u64 = 1_000_000;

/// Those that the figure shows. The others would lie on or beside them.
const DRAWN: usize = 3;

impl Sweep {
    /// Each run waits for detection that the one before has left switched off.
    fn command(&self) -> GuestCommand {
        let Self { level, guard, .. } = self;
        let arguments = format!(
            "sweep --guest {GUEST} --level {level} --timeouts 1ms..24ms/1ms --repeat 3 --settle 40ms \
             --seed 1 --guard {guard} --csv -"
        );
        GuestCommand {
            mitigate: self.mitigate,
            detection: self.detection,
            ..GuestCommand::splitlock(self.name, &arguments)
        }
    }

    /// A lab's numbers say that they are, of which kernel, and what stands in for detection. The
    /// program itself can only know that it runs in a virtual machine.
    fn label(&self, csv: &str, kernel: &str) -> Result<String> {
        ensure!(
            csv.contains(NO_DETECTION),
            "the sweep {} says something else of its host than: {NO_DETECTION}",
            self.name
        );
        let series = format!("measured (lab {kernel}: {})", self.setting);
        let label = |line: &str| match line.strip_prefix("measured (native)") {
            Some(rest) => format!(
                "{series}{}\n",
                rest.replace(",native,", &format!(",{kernel},"))
            ),
            None => format!("{}\n", line.replace(NO_DETECTION, STAND_IN)),
        };
        Ok(csv.lines().map(label).collect())
    }
}

/// What a sweep says of its host where a CPU has no detection.
const NO_DETECTION: &str = "split-lock detection: not supported by this CPU";
const STAND_IN: &str = "in the lab: VMMCALL stands for a split lock that is detected; what follows is the kernel's own";

/// What the doctor says in the machine, when all sweeps are done. Its CPU has no detection, and the doctor has to
/// say so; what its kernel has written about traps it has to see all the same.
fn doctor() -> GuestCommand {
    GuestCommand {
        detection: false,
        ..GuestCommand::splitlock(DOCTOR, "doctor --json")
    }
}

const DOCTOR: &str = "doctor";

/// Runs the tools in a machine with this kernel, and draws what came of it. The answer is whether the
/// guest got on where it should, and only there, and whether the log names every thread that trapped.
pub(crate) fn run(args: &ToolsArgs, prepared: &Prepared<'_>) -> Result<bool> {
    let (kernel, programs, folder) = (prepared.kernel, &prepared.lab.programs, &prepared.results);
    let commands = SWEEPS.iter().map(Sweep::command).chain([doctor()]);
    let plan = Plan {
        commands: commands.collect(),
        ..Plan::default()
    };
    let what = format!("sweeps in {}", kernel.release);
    let bundles = prepared.boot(&what, Shape::OneCpu, &plan, &[])?;
    let mut is_fine = true;
    let mut files = Vec::new();
    println!(
        "\n{}, median turns at 1, 4, 8, 12, 16, 20 and 24 ms",
        kernel.release
    );
    for sweep in &SWEEPS {
        let csv = printed(&bundles, sweep.name)?;
        let file = folder.join(format!("{}.csv", sweep.name));
        output::write(&file, sweep.label(&csv, kernel.profile.base())?.as_bytes())?;
        is_fine &= judge(sweep, &csv, &kernel.profile)?;
        files.push(file);
    }
    let log = folder.join("kernel.log");
    output::write(&log, bytes(&bundles, "kernel-log")?)?;
    is_fine &= reads_log(programs, &log)?;
    is_fine &= sees_the_machine(&printed(&bundles, DOCTOR)?, kernel)?;
    draw(programs, &files, args.out.as_deref())?;
    Ok(is_fine)
}

/// Prints a sweep, and whether the guest got on where it should, and only there.
fn judge(sweep: &Sweep, csv: &str, profile: &Profile) -> Result<bool> {
    let turns = median_turns(csv)?;
    let limits = Thresholds::of(profile).context("this kernel does not sleep")?;
    let (too_short, long_enough) = (limits.never_up_to(), outlasting(&limits));
    ensure!(
        turns.len() == TIMEOUTS,
        "the sweep {} has {} timeouts and not {TIMEOUTS}",
        sweep.name,
        turns.len()
    );
    let is_fine = turns.iter().all(|(&timeout, &turns)| match sweep.progress {
        Progress::Always => turns > 0,
        Progress::InProportion => turns > 0 && turns * 2 >= timeout.0 / NANOS_PER_MS,
        Progress::PastTheSleep if timeout <= too_short => turns == 0,
        Progress::PastTheSleep if timeout >= long_enough => turns > 0,
        Progress::PastTheSleep => true,
    });
    let shown = [1, 4, 8, 12, 16, 20, 24].map(|ms| {
        let turns = turns.get(&Nanos::from_millis(ms));
        format!("{:4}", turns.map_or("-".into(), u64::to_string))
    });
    let verdict = if is_fine {
        "as foretold"
    } else {
        "NOT as foretold"
    };
    println!("{:14} {} {verdict}", sweep.name, shown.join(" "));
    Ok(is_fine)
}

/// Longer than the longest sleep by a tick, in which the guest does something.
fn outlasting(limits: &Thresholds) -> Nanos {
    let ticks = Jiffies(limits.sleep_ticks().0 + 2);
    limits.hz().longest_span(ticks)
}

fn median_turns(csv: &str) -> Result<BTreeMap<Nanos, u64>> {
    let mut reader = csv::ReaderBuilder::new()
        .comment(Some(b'#'))
        .from_reader(csv.as_bytes());
    let mut all: BTreeMap<Nanos, Vec<u64>> = BTreeMap::new();
    for sample in reader.deserialize() {
        let sample: Sample = sample.context("the machine sent no sweep")?;
        let turns = all.entry(Nanos(sample.timeout_ns)).or_default();
        turns.push(sample.turns);
    }
    let median = |mut turns: Vec<u64>| {
        turns.sort_unstable();
        turns[turns.len() / 2]
    };
    Ok(all
        .into_iter()
        .map(|(timeout, turns)| (timeout, median(turns)))
        .collect())
}

/// What of a sweep's row is looked at.
#[derive(Deserialize)]
struct Sample {
    timeout_ns: u64,
    turns: u64,
}

/// Whether `splitlock log` finds in the kernel's own lines the trap of each sweep that met detection:
/// one line each, because each sweep has one thread that runs its vCPU.
fn reads_log(programs: &Programs, log: &Path) -> Result<bool> {
    let text = splitlock(programs, &["log".as_ref(), log])?;
    let trapped = trapping_sweeps();
    let lines = text.lines().filter(|line| line.contains("split lock "));
    println!(
        "\nthe kernel's own lines, as `splitlock log` reads them ({trapped} expected):\n{text}"
    );
    Ok(lines.count() == trapped)
}

fn trapping_sweeps() -> usize {
    SWEEPS.iter().filter(|sweep| sweep.detection).count()
}

/// Whether `splitlock doctor` has seen the kernel, its tick rate, its sysctl and its traps, and who that was; and
/// whether it kept from calling a CPU one that detects split locks because of them.
fn sees_the_machine(json: &str, kernel: &Kernel) -> Result<bool> {
    let found: serde_json::Value = serde_json::from_str(json).context("the doctor sent no JSON")?;
    let fact = |name: &str| &found["facts"][name]["seen"]["is"];
    let (verdict, history) = (&found["verdict"], &found["history"]["seen"]["is"]);
    let first_thread = &found["who"]["groups"][0]["threads"][0];
    let doubts = verdict["doubts"].as_array().map_or(&[][..], Vec::as_slice);
    let checks = [
        ("release", *fact("kernel_release") == kernel.release),
        ("tick rate", *fact("hz") == kernel.profile.hz().get()),
        ("sysctl", *fact("split_lock_mitigate") == "1"),
        ("traps", history["alignment_checks"] == trapping_sweeps()),
        ("who", first_thread["comm"].is_string()),
        ("verdict", verdict["condition"]["is"] == "not_applicable"),
        ("doubt", !doubts.is_empty()),
    ];
    let wrong = checks.iter().filter(|(_, is_right)| !is_right);
    let wrong: Vec<_> = wrong.map(|(name, _)| *name).collect();
    println!(
        "\n`splitlock doctor` there: {}",
        found["title"].as_str().unwrap_or("no title")
    );
    for doubt in doubts {
        println!("  doubts: {}", doubt.as_str().unwrap_or_default());
    }
    if !wrong.is_empty() {
        println!("NOT as it should be: {}", wrong.join(", "));
    }
    Ok(wrong.is_empty())
}

fn draw(programs: &Programs, files: &[PathBuf], out: Option<&Path>) -> Result<()> {
    if let Some(folder) = files[0].parent() {
        println!("every run: {}/*.csv", folder.display());
    }
    let Some(out) = out else { return Ok(()) };
    let mut arguments: Vec<&Path> = vec!["plot".as_ref()];
    arguments.extend(files[..DRAWN].iter().map(PathBuf::as_path));
    arguments.extend(["--out".as_ref(), out]);
    splitlock(programs, &arguments)?;
    println!("figure: {}", out.display());
    Ok(())
}

fn splitlock(programs: &Programs, arguments: &[&Path]) -> Result<String> {
    programs::run(Command::new(&programs.splitlock).args(arguments))
}

/// What a program in the machine printed, if it ended well.
fn printed(bundles: &Bundles, name: &str) -> Result<String> {
    let [out, err, code] = output_of(bundles, name)?;
    ensure!(
        code == "0",
        "splitlock {name} failed in the machine: {}",
        err.trim()
    );
    Ok(out)
}
