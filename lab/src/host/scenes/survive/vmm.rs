//! A VMM in C: the scheme of the report that started all this, and a guest that counts with two vCPUs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use split_lock_lab::cpu::script::{Command, PlacedFile};

use crate::host::cache::Cache;
use crate::host::kernel::BootKernel;
use crate::host::machine::bochs::{Limits, Outcome};
use crate::host::machine::qemu::Qemu;
use crate::host::machine::runner::{Findings, Scene};
use crate::host::programs;

/// Two vCPUs count at the same time.
pub(super) const CPUS: u8 = 2;

const LIMITS: Limits = Limits::in_seconds(120, 900);

/// The VMMs that the tests of the library use.
const SOURCE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../crates/split-lock-preload/tests/vmm/vmm.c"
);
const PROGRAM: &str = "vmm";
const RUN: &str = "splitlock run --quiet --";

const TIMER: &str = "timer";
const TIMER_WITH: &str = "timer-with-run";
const TIMER_HIDDEN: &str = "timer-with-run-wchan-hidden";
const COUNT: &str = "count";
const EXITS: &str = "exits";
const EXITS_WITH: &str = "exits-with-run";
const BUSY: &str = "busy";
const BUSY_WITH: &str = "busy-with-run";

/// How long the timer of 1 ms calls the vCPU out.
const TIMER_MS: u32 = 3000;
/// Split locks of each of two vCPUs.
const TURNS: u32 = 400;
/// Exits to the VMM, and how many of them it has to get in the time that they take without the library, in percent. It
/// counts instructions, of which a real CPU spends most of its time on few: those that enter and leave the guest.
const EXITS_COUNT: u32 = 20_000;
const EXITS_PERCENT: f64 = 95.0;
/// vCPUs that execute without pause, and for how long.
const BUSY_VCPUS: u32 = 8;
const BUSY_MS: u32 = 4000;

/// How many of its own kicks a VMM has to get, of those that it gets without the library, in percent: one that comes while
/// something is done for the vCPU is one with the next.
const KICKS_PERCENT: u32 = 97;
/// How many instructions a second the library may execute for the busy vCPUs: 0.3 % of what a CPU does that executes two
/// billion.
const WATCHDOG_INSTRUCTIONS: u64 = 6_000_000;
/// The CPUs of the machine take turns with 200 million instructions a second.
const INSTRUCTIONS_A_US: u64 = 200 / CPUS as u64;

/// What has come of a scene, of a kernel of this release.
type Judge = fn(&str, &Outcome) -> Result<Findings>;

pub(super) fn build(cache: &Cache) -> Result<PathBuf> {
    let program = cache.folder("build").join(PROGRAM);
    programs::compile(&program, &["-O1", "-pthread"], &[SOURCE.into()])
        .context("cannot compile the VMM in C")?;
    Ok(program)
}

/// One in which the CPU detects, and one in which the kernel does not ask it to.
pub(super) fn scenes<'a>(
    kernel: &'a BootKernel,
    qemu: &Qemu,
    library: &PlacedFile,
    vmm: &Path,
) -> Result<[Scene<'a>; 2]> {
    let program = PlacedFile {
        at: format!("bin/{PROGRAM}"),
        from: vmm.to_owned(),
    };
    // Shared libraries come with QEMU.
    let files = qemu.files(&[library.clone(), program])?;
    let scene = |name: &str, boot_words, commands: Vec<Command>, judge: Judge| {
        let judge = move |outcome: &Outcome, _: &Path| judge(&kernel.release, outcome);
        let mut scene = Scene::new(name, kernel, LIMITS, commands, judge).with_kvm();
        scene.options.cpus = CPUS;
        scene.boot_words = boot_words;
        scene.script.files.clone_from(&files);
        scene
    };
    let warn = vec![
        shell(TIMER, "", &format!("mask {TIMER_MS}")),
        shell(TIMER_WITH, RUN, &format!("mask {TIMER_MS}")),
        shell(
            TIMER_HIDDEN,
            &format!("env SPLITLOCK_RUN_HIDE_WAIT_CHANNELS=1 {RUN}"),
            &format!("mask {TIMER_MS}"),
        ),
        shell(COUNT, RUN, &format!("many {TURNS} {CPUS}")),
        shell(EXITS, "", &format!("exits {EXITS_COUNT}")),
        shell(EXITS_WITH, RUN, &format!("exits {EXITS_COUNT}")),
        shell(BUSY, "", &format!("busy {BUSY_VCPUS} {BUSY_MS}")),
        shell(BUSY_WITH, RUN, &format!("busy {BUSY_VCPUS} {BUSY_MS}")),
    ];
    let off = vec![shell(COUNT, "", &format!("many {TURNS} {CPUS}"))];
    Ok([
        scene("VMM in C", "", warn, judge),
        scene(
            "VMM in C, without detection",
            "split_lock_detect=off",
            off,
            |release, outcome| {
                let mut findings =
                    Findings::new(&format!("\n{release}, a VMM in C, without detection"));
                judge_count(&mut findings, outcome)?;
                Ok(findings)
            },
        ),
    ])
}

fn shell(name: &str, starter: &str, scenario: &str) -> Command {
    Command::shell(
        name,
        &format!("timeout -s KILL 40 {starter} /bin/{PROGRAM} {scenario} 2>&1; :"),
    )
}

fn judge(release: &str, outcome: &Outcome) -> Result<Findings> {
    let mut findings = Findings::new(&format!("\n{release}, a VMM in C"));
    let without = Timer::read(&outcome.printed(TIMER)?)?;
    findings.check(
        &format!(
            "its timer of 1 ms calls the vCPU out {} times in {TIMER_MS} ms, and its guest splits {} locks",
            without.kicks, without.turns
        ),
        without.turns == 0,
    );
    for name in [TIMER_WITH, TIMER_HIDDEN] {
        let with = Timer::read(&outcome.printed(name)?)?;
        findings.check(
            &format!(
                "{name}: {} times, and {} split locks are done",
                with.kicks, with.turns
            ),
            with.turns > 0 && with.kicks * 100 >= without.kicks * KICKS_PERCENT,
        );
    }
    judge_count(&mut findings, outcome)?;
    judge_exits(&mut findings, outcome)?;
    judge_busy(&mut findings, outcome)?;
    Ok(findings)
}

/// The same is asked of both scenes.
fn judge_count(findings: &mut Findings, outcome: &Outcome) -> Result<()> {
    let printed = outcome.printed(COUNT)?;
    let right = format!("{} turns, nothing else changed 1", TURNS * u32::from(CPUS));
    findings.check(
        &format!(
            "two vCPUs that count at one word leave the memory so: {}",
            printed.trim()
        ),
        printed.trim() == right,
    );
    Ok(())
}

fn judge_exits(findings: &mut Findings, outcome: &Outcome) -> Result<()> {
    let us = |name: &str| -> Result<f64> {
        let printed = outcome.printed(name)?;
        let us = printed.split_once(" us").map(|(us, _)| us.trim().parse());
        us.and_then(Result::ok)
            .with_context(|| format!("{name}: {printed}"))
    };
    let (without, with) = (us(EXITS)?, us(EXITS_WITH)?);
    let percent = 100.0 * without / with;
    findings.check(
        &format!(
            "an exit to the VMM and back takes {:.0} instructions, and {:.0} with the library: {percent:.1} % as many exits",
            without * INSTRUCTIONS_A_US as f64,
            with * INSTRUCTIONS_A_US as f64
        ),
        percent >= EXITS_PERCENT,
    );
    Ok(())
}

fn judge_busy(findings: &mut Findings, outcome: &Outcome) -> Result<()> {
    let of_others = |name: &str| -> Result<u64> {
        let printed = outcome.printed(name)?;
        let number = between(&printed, "others used ", " us of CPU");
        number.with_context(|| format!("{name}: {printed}"))
    };
    let used_us = of_others(BUSY_WITH)?.saturating_sub(of_others(BUSY)?);
    let instructions = used_us * INSTRUCTIONS_A_US * 1000 / u64::from(BUSY_MS);
    findings.check(
        &format!(
            "beside {BUSY_VCPUS} busy vCPUs without a lock the library executes {instructions} instructions a second, \
             which may be {WATCHDOG_INSTRUCTIONS}"
        ),
        instructions <= WATCHDOG_INSTRUCTIONS,
    );
    Ok(())
}

/// What the VMM with the timer says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Timer {
    kicks: u32,
    turns: u32,
}

impl Timer {
    fn read(printed: &str) -> Result<Self> {
        let read = || {
            Some(Self {
                kicks: between(printed, "kicks ", " in ")?,
                turns: between(printed, " ms, ", " turns")?,
            })
        };
        read().with_context(|| format!("the VMM did not say what it has done: {printed}"))
    }
}

fn between<T: std::str::FromStr>(text: &str, before: &str, after: &str) -> Option<T> {
    let (_, rest) = text.split_once(before)?;
    let (number, _) = rest.split_once(after)?;
    number.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_vmm_says_of_itself_is_read() {
        let printed = "kicks 2987 in 3000 ms, 0 turns\nprogress 0, the kicks arrive 1\n";
        let timer = Timer {
            kicks: 2987,
            turns: 0,
        };
        assert_eq!(Timer::read(printed).unwrap(), timer);
        assert!(Timer::read("Killed\n").is_err());
    }
}
