//! Programs that signals interrupt as timers, profilers and runtimes do it, and that split locks: which of them hang, and how
//! much slower the others are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use split_lock_lab::cpu::script::{Command, PlacedFile};
use split_lock_model::kernel::Profile;
use split_lock_model::progress::{Phase, ProgramPlan};
use split_lock_model::sim::{Costs, Program, TimerClock};
use split_lock_model::time::Nanos;

use crate::host::args::Kernels;
use crate::host::cache::{Cache, workspace};
use crate::host::kernel::BootKernel;
use crate::host::machine::bochs::{Limits, Outcome};
use crate::host::machine::lab::Lab;
use crate::host::machine::runner::{self, Findings, Scene};
use crate::host::programs;
use crate::host::step::step;

const LIMITS: Limits = Limits::in_seconds(120, 1800);

/// One for the thread that splits locks, one for the thread that ends it.
const CPUS: u8 = 2;

/// How long a bus lock takes; and how long each program runs.
const BUS_LOCK: Nanos = Nanos::from_micros(10);
const RUN: Nanos = Nanos::from_millis(1500);

/// Fewer turns than one in so many are none: the first or the last may be got past by chance.
const HUNG_BELOW: f64 = 1.0 / 200.0;

struct Kind {
    /// As the table has it.
    name: &'static str,
    signals: &'static str,
    /// The program's argument, which names the command, too.
    mode: &'static str,
    executable: &'static str,
    /// What the model takes it for.
    timer: Option<(TimerClock, Nanos)>,
}

const PLAIN: &str = "timers";
const PROFILED: &str = "timers-pg";

/// The first has no timer: the others are compared with it.
const KINDS: [Kind; 7] = [
    Kind {
        name: "no timer",
        signals: "none",
        mode: "none",
        executable: PLAIN,
        timer: None,
    },
    Kind {
        name: "clock of an emulator, 1 kHz",
        signals: "setitimer(ITIMER_REAL), 1 ms",
        mode: "real:1000",
        executable: PLAIN,
        timer: Some((TimerClock::Wall, Nanos::from_millis(1))),
    },
    Kind {
        name: "profiler of time, 100 Hz",
        signals: "setitimer(ITIMER_REAL), 10 ms",
        mode: "real:10000",
        executable: PLAIN,
        timer: Some((TimerClock::Wall, Nanos::from_millis(10))),
    },
    Kind {
        name: "frame timer, 60 Hz",
        signals: "timer_create(CLOCK_MONOTONIC), 16.7 ms",
        mode: "monotonic:16667",
        executable: PLAIN,
        timer: Some((TimerClock::Wall, Nanos::from_micros(16_667))),
    },
    Kind {
        name: "Go, a goroutine that does not yield",
        signals: "SIGURG by a thread that looks every 10 ms",
        mode: "sysmon",
        executable: PLAIN,
        timer: None,
    },
    Kind {
        name: "gprof (cc -pg)",
        signals: "setitimer(ITIMER_PROF), 10 ms of CPU time",
        mode: "none",
        executable: PROFILED,
        timer: Some((TimerClock::Cpu, Nanos::from_millis(10))),
    },
    Kind {
        name: "profiler of CPU time, 1 kHz",
        signals: "timer_create(CLOCK_THREAD_CPUTIME_ID), 1 ms",
        mode: "thread-cpu:1000",
        executable: PLAIN,
        timer: Some((TimerClock::Cpu, Nanos::from_millis(1))),
    },
];

const MITIGATE: &str = "/proc/sys/kernel/split_lock_mitigate";

impl Kind {
    fn command(&self, mitigate: bool) -> Command {
        let Self {
            mode, executable, ..
        } = self;
        let value = u8::from(mitigate);
        let ms = RUN.0 / 1_000_000;
        // A window that the one before it has left open is over by then.
        let text = format!("echo {value} > {MITIGATE} && sleep 0.1 && /{executable} {mode} {ms}");
        Command::shell(&self.label(mitigate), &text)
    }

    fn label(&self, mitigate: bool) -> String {
        let switch = if mitigate { "punished" } else { "free" };
        format!(
            "{}-{}-{switch}",
            self.executable,
            self.mode.replace(':', "-")
        )
    }

    /// How often it got round its loop.
    fn turns(&self, mitigate: bool, outcome: &Outcome) -> Result<u64> {
        let said = outcome.printed(&self.label(mitigate))?;
        let turns = said
            .strip_prefix("turns ")
            .and_then(|rest| rest.split(' ').next());
        let turns = turns.and_then(|turns| turns.parse().ok());
        turns.with_context(|| format!("the program did not say how far it came: {said}"))
    }

    /// Whether the model has it hang, if it knows such a timer.
    fn hangs(&self, kernel: &Profile) -> Result<Option<bool>> {
        let Some((clock, period)) = self.timer else {
            return Ok(None);
        };
        let plan = ProgramPlan {
            program: Program::split_loop(BUS_LOCK)?,
            costs: Costs::default(),
            clock: Some(clock),
            periods: vec![period],
            length: RUN,
            repeats: 5,
            phase: Phase::Spread,
        };
        let runs = plan.runs(kernel)?;
        Ok(Some(runs.iter().all(|run| run.run.turns == 0)))
    }
}

/// Boots kernels, and prints a table of each.
pub(crate) fn run(args: &Kernels) -> Result<bool> {
    let lab = Lab::open([CPUS])?;
    let kernels = lab.kernels(&args.kernel)?;
    let built = step("building the programs in C", || build(&lab.cache))?;
    let scenes = kernels.iter().map(|kernel| scene(kernel, &built));
    runner::run(&lab, scenes.collect::<Result<_>>()?)
}

fn build(cache: &Cache) -> Result<[PathBuf; 2]> {
    let source = workspace().join("lab/src/host/scenes/programs/timers.c");
    let compile = |name, more: &[&str]| {
        let program = cache.folder("build/timers").join(name);
        let options = [&["-O2", "-Wall", "-Werror", "-static", "-pthread"], more].concat();
        programs::compile(&program, &options, std::slice::from_ref(&source))
            .context("the programs need a C compiler and a static C library")?;
        Ok::<_, anyhow::Error>(program)
    };
    Ok([compile(PLAIN, &[])?, compile(PROFILED, &["-pg"])?])
}

fn scene<'a>(kernel: &'a BootKernel, built: &[PathBuf]) -> Result<Scene<'a>> {
    let profile: Profile = kernel.release.parse()?;
    let profile = profile.with_hz(kernel.hz()?);
    let each = |kind: &Kind| [true, false].map(|mitigate| kind.command(mitigate));
    let commands: Vec<_> = KINDS.iter().flat_map(each).collect();
    let judge = move |outcome: &Outcome, _: &Path| judge(&kernel.release, &profile, outcome);
    let mut scene = Scene::new("programs", kernel, LIMITS, commands, judge);
    scene.options.cpus = CPUS;
    scene.options.bus_lock_ns = BUS_LOCK.0 as u32;
    scene.script.files = built.iter().cloned().map(PlacedFile::in_root).collect();
    Ok(scene)
}

fn judge(release: &str, profile: &Profile, outcome: &Outcome) -> Result<Findings> {
    let mut findings = Findings::new(&format!("\n{release}, programs that split locks"));
    findings
        .say("| program | what interrupts it | turns a second | with split_lock_mitigate=0 | |");
    findings.say("|---|---|---|---|---|");
    let mut slower_without_timer = None;
    let mut checks = vec![];
    for kind in &KINDS {
        let punished = kind.turns(true, outcome)?;
        let free = kind.turns(false, outcome)?;
        let share = punished as f64 / free as f64;
        let is_hung = share < HUNG_BELOW;
        let verdict = match is_hung {
            true => "hung".to_owned(),
            false => format!("{:.1} times slower", 1.0 / share),
        };
        let per_second = |turns: u64| turns * 1_000_000_000 / RUN.0;
        findings.say(&format!(
            "| {} | {} | {} | {} | {verdict} |",
            kind.name,
            kind.signals,
            per_second(punished),
            per_second(free)
        ));
        if let Some(hangs) = kind.hangs(profile)? {
            let fate = if hangs { "hangs" } else { "gets on" };
            checks.push((
                format!("{}: {fate}, as the model has it", kind.name),
                hangs == is_hung,
            ));
        }
        // Noise of two or three windows more or fewer.
        let without = *slower_without_timer.get_or_insert(share);
        if matches!(kind.timer, Some((TimerClock::Cpu, _))) {
            let change = share / without - 1.0;
            let what = format!(
                "{}: as fast as without a timer ({:+.0} %)",
                kind.name,
                change * 100.0
            );
            checks.push((what, change.abs() < 0.1));
        }
        let is_free = format!(
            "{}: nothing holds it up with split_lock_mitigate=0",
            kind.name
        );
        let most = RUN.0 / BUS_LOCK.0;
        checks.push((is_free, free * 10 > most * 8));
    }
    for (what, is_so) in checks {
        findings.check(&what, is_so);
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_names_of_their_own() {
        let both = |kind: &Kind| [true, false].map(|mitigate| kind.label(mitigate));
        let mut names: Vec<_> = KINDS.iter().flat_map(both).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 2 * KINDS.len());
    }
}
