//! `splitlock watch --relieve` in the machine: a guest and a program that are in a livelock get past, again and again, a thread
//! that merely splits locks is punished as before, and whoever makes a livelock on purpose gains no more than is said.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use split_lock_lab::cpu::journal::{Event, Journal, Kind};
use split_lock_lab::cpu::script::Command;

use crate::host::args::Kernels;
use crate::host::kernel::BootKernel;
use crate::host::machine::bochs::{Limits, Outcome};
use crate::host::machine::lab::Lab;
use crate::host::machine::runner::{self, Findings, Scene};
use crate::host::scenes::watch::UNTIL_WATCH_LISTENS;

const LIMITS: Limits = Limits::in_seconds(200, 1800);

const UNRELIEVED: &str = "unrelieved";
const RELIEVED: &str = "relieved";
const ATTACKERS: &str = "attackers";
const LEFT_OFF: &str = "left-off";

/// How long locks are split, in seconds. The watch begins before and ends later.
const SECONDS: u64 = 4;

/// From the first trap of a livelock to the window, and how much the third thread's punishment may change.
const SOON: Duration = Duration::from_millis(300);
const SAME: f64 = 0.1;

/// The default budget, and what it gives away at most: ten windows, each of which is as long as the kernel's three ticks and the
/// tick in which the worker that ends it may have to wait.
const BUDGET: Duration = Duration::from_millis(20);
const RELIEFS_PER_SECOND: u64 = 10;
const TICKS_PER_WINDOW: u64 = 4;
/// Of Debian's kernels.
const TICK_MS: u64 = 4;

/// Below `/tmp/watch`: what the watch has said. The switch's value comes last.
fn beside_watch(options: &str, programs: &[&str]) -> String {
    let programs: Vec<String> = programs
        .iter()
        .map(|program| format!("timeout -s KILL {SECONDS} {program} >/dev/null 2>&1 &"))
        .collect();
    let programs = programs.join("\n");
    let watched = SECONDS + 2;
    format!(
        "mkdir -p /run; rm -f /tmp/watch
         {WATCH_ON} splitlock watch --json --duration {watched}s {options} > /tmp/watch & watch=$!
         {UNTIL_WATCH_LISTENS}
         {programs}
         wait $watch; code=$?
         cat /tmp/watch /proc/sys/kernel/split_lock_mitigate
         exit $code"
    )
}

// A CPU for each: in another thread's window on its CPU a thread would get past as well, and one that waits for its CPU when it is
// interrupted may wait until its sleep would have been over. And so a CPU's windows are those of its thread.
const CPUS: u8 = 4;
const GUEST_CPU: u32 = 0;
const PROGRAM_CPU: u32 = 1;
const OTHER_CPU: u32 = 2;
const GUEST: &str = "taskset 1 splitlock sweep --guest split --timeouts 1ms --repeat 100000 --warm-up 0 --settle 0ms --csv /dev/null";
const PROGRAM: &str = "taskset 2 lab-split --count 1000000000 --signal-every-us 1000";
const OTHER_PROGRAM: &str = "taskset 4 lab-split --count 1000000000 --signal-every-us 1000";
const MERELY_SPLITS: &str = "taskset 4 lab-split --count 1000000000";
const WATCH_ON: &str = "taskset 8";

/// As a watch that was killed in the middle of a relief leaves it.
const LEAVE_OFF: &str = "mkdir -p /run; echo -n off > /run/splitlock-relief; echo 0 > /proc/sys/kernel/split_lock_mitigate
    splitlock watch --relieve --json --duration 100ms > /dev/null || exit 9
    cat /proc/sys/kernel/split_lock_mitigate
    echo 0 > /proc/sys/kernel/split_lock_mitigate
    splitlock watch --relieve --json --duration 100ms; echo $?
    cat /proc/sys/kernel/split_lock_mitigate
    echo 1 > /proc/sys/kernel/split_lock_mitigate";

pub(crate) fn run(args: &Kernels) -> Result<bool> {
    let lab = Lab::open([CPUS])?;
    let kernels = lab.kernels(&args.kernel)?;
    let three = [GUEST, PROGRAM, MERELY_SPLITS];
    let scene = |kernel| {
        let commands = [
            Command::shell(UNRELIEVED, &beside_watch("", &three)),
            Command::shell(RELIEVED, &beside_watch("--relieve", &three)),
            Command::shell(
                ATTACKERS,
                &beside_watch("--relieve", &[PROGRAM, OTHER_PROGRAM]),
            ),
            Command::shell(LEFT_OFF, LEAVE_OFF),
        ];
        let judge = move |outcome: &Outcome, _: &Path| judge(kernel, outcome);
        let mut scene = Scene::new("relieve", kernel, LIMITS, commands, judge).with_kvm();
        scene.options.cpus = CPUS;
        scene
    };
    runner::run(&lab, kernels.iter().map(scene).collect())
}

/// How the thread of one CPU fared.
#[derive(Clone, Debug, Default)]
struct Fared {
    traps: u64,
    /// From its first trap after a window to the next window, for each window.
    waits: Vec<Duration>,
    waits_since: Option<u64>,
    /// Its first trap, and its last.
    span_ns: Option<(u64, u64)>,
}

impl Fared {
    fn windows(&self) -> u64 {
        self.waits.len() as u64
    }

    /// From its first trap to its last: it does not begin at once.
    fn windows_per_second(&self) -> f64 {
        let (first, last) = self.span_ns.unwrap_or_default();
        self.windows() as f64 / Duration::from_nanos(last - first).as_secs_f64()
    }

    fn longest_wait(&self) -> Duration {
        self.waits.iter().max().copied().unwrap_or_default()
    }
}

/// By CPU.
fn fared(journal: &Journal, events: &[&Event]) -> BTreeMap<u32, Fared> {
    let mut all: BTreeMap<u32, Fared> = BTreeMap::new();
    for event in events {
        let fared = all.entry(event.cpu).or_default();
        match event.kind {
            Kind::AlignmentCheck(_) => {
                fared.traps += 1;
                let ns = journal.nanos(event.tick);
                fared.span_ns = Some((fared.span_ns.map_or(ns, |(first, _)| first), ns));
                fared.waits_since.get_or_insert(event.tick);
            }
            Kind::TestCtrl(0) => {
                if let Some(since) = fared.waits_since.take() {
                    let waited = journal.nanos(event.tick) - journal.nanos(since);
                    fared.waits.push(Duration::from_nanos(waited));
                }
            }
            Kind::TestCtrl(_) | Kind::BusLock(_) | Kind::DebugException => {}
        }
    }
    all
}

fn judge(kernel: &BootKernel, outcome: &Outcome) -> Result<Findings> {
    let mut findings = Findings::new(&format!("\n{}, relieved", kernel.release));
    let journal = &outcome.journal;
    let of = |name| -> Result<_> { Ok(fared(journal, &outcome.events_during(name)?)) };
    let (unrelieved, relieved) = (of(UNRELIEVED)?, of(RELIEVED)?);
    let on = |all: &BTreeMap<u32, Fared>, cpu| all.get(&cpu).cloned().unwrap_or_default();
    for (name, cpu) in [("the guest", GUEST_CPU), ("the program", PROGRAM_CPU)] {
        let (before, after) = (on(&unrelieved, cpu), on(&relieved, cpu));
        findings.check(
            &format!(
                "{name} is in a livelock: {} traps, {} windows",
                before.traps,
                before.windows()
            ),
            before.traps > 1000 && before.windows() == 0,
        );
        let longest = after.longest_wait();
        findings.check(
            &format!(
                "with --relieve {name} gets past {} times, each {longest:.1?} after its first trap or sooner",
                after.windows()
            ),
            after.windows() >= 10 && longest <= SOON,
        );
    }
    let [alone, beside] =
        [&unrelieved, &relieved].map(|all| on(all, OTHER_CPU).windows_per_second());
    let change = beside / alone - 1.0;
    findings.check(
        &format!(
            "the third thread is punished as before: {alone:.1} and {beside:.1} windows a second ({:+.1} %)",
            change * 100.0
        ),
        change.abs() <= SAME,
    );
    judge_attackers(outcome, &of(ATTACKERS)?, &mut findings)?;
    for name in [UNRELIEVED, RELIEVED, ATTACKERS] {
        let value = outcome.printed(name)?;
        let is_on = value.trim_end().ends_with("\n1");
        findings.check(
            &format!("{name}: kernel.split_lock_mitigate is 1 afterwards"),
            is_on,
        );
    }
    let said = outcome.printed(LEFT_OFF)?;
    findings.check(
        "what a watch that was killed has left is put right, and a 0 that somebody wrote stands",
        said.lines().eq(["1", "2", "0"]),
    );
    Ok(findings)
}

/// How long detection was off for each of them.
fn judge_attackers(
    outcome: &Outcome,
    attackers: &BTreeMap<u32, Fared>,
    findings: &mut Findings,
) -> Result<()> {
    let said = outcome.printed(ATTACKERS)?;
    let last = said.lines().find(|line| line.contains(r#""event":"end""#));
    let end: Value = serde_json::from_str(last.context("the watch did not end")?)?;
    let nanos = |value: &Value| Duration::from_nanos(value.as_u64().unwrap_or_default());
    let relief = &end["relief"];
    let relieved = nanos(&relief["relieved_ns"]);
    let reliefs = relief["reliefs"].as_u64().unwrap_or_default();
    findings.check(
        &format!(
            "two attackers: {reliefs} reliefs in {SECONDS} s, {relieved:.1?} in all, {} refused",
            relief["refused"]
        ),
        reliefs > 0
            && reliefs <= RELIEFS_PER_SECOND * (SECONDS + 1)
            && relieved <= BUDGET * (SECONDS as u32 + 1),
    );
    let windows: u64 = attackers.values().map(Fared::windows).sum();
    let off = nanos(&end["unprotected_ns"]);
    let most = Duration::from_millis(TICK_MS * TICKS_PER_WINDOW * RELIEFS_PER_SECOND * SECONDS);
    let share = off.as_secs_f64() / 2.0 / SECONDS as f64;
    findings.check(
        &format!(
            "they get {windows} windows, and each is without detection for {:.1} % of the time; who is punished alone, for 43 %",
            share * 100.0
        ),
        windows > 0 && off / 2 <= most,
    );
    Ok(())
}
