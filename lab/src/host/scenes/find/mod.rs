//! `splitlock find` against the CPU: what it names in an emulator has to be what traps on a CPU that detects split locks.
//! And against itself: what it names in a guest has to be what it names in the guest's programs alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use split_lock_lab::cpu::journal::Kind;
use split_lock_lab::cpu::script::{Command, PlacedFile};
use split_lock_lab::cpu::trace::hexadecimal;

use crate::host::args::Kernels;
use crate::host::cache::{Cache, workspace};
use crate::host::kernel::BootKernel;
use crate::host::machine::bochs::{Limits, Outcome};
use crate::host::machine::lab::Lab;
use crate::host::machine::runner::{self, Findings, Scene};
use crate::host::programs;
use crate::host::step::step;

mod guest;

const LIMITS: Limits = Limits::in_seconds(60, 600);

/// Of each split lock. As many of them as a program does at one instruction take longer than the kernel leaves detection
/// off after a trap, so that each instruction meets detection.
const BUS_LOCK: Duration = Duration::from_micros(10);
const TURNS: &str = "3000";

/// A program of the tests of `splitlock find`.
struct Program {
    name: &'static str,
    options: &'static [&'static str],
    sources: &'static [&'static str],
    arguments: &'static [&'static str],
    exit_code: i32,
}

const PROGRAMS: [Program; 2] = [
    Program {
        name: "sites",
        options: &["-O1", "-static", "-no-pie", "-pthread"],
        sources: &["sites.c", "library.c"],
        arguments: &[TURNS, "1"],
        exit_code: 0,
    },
    // Of 32 bits, and without a C library, which may not be installed.
    Program {
        name: "small32",
        options: &["-m32", "-static", "-nostdlib"],
        sources: &["small32.S"],
        arguments: &[],
        exit_code: 7,
    },
];

/// How often an instruction has split a lock, by its address.
type Counts = BTreeMap<u64, u64>;

/// Whether both name the same instructions, as often.
pub(crate) fn run(args: &Kernels) -> Result<bool> {
    let lab = Lab::open([1])?;
    let splitlock = splitlock(&lab)?;
    let found = step("`splitlock find`", || {
        let programs = PROGRAMS.iter();
        let found = programs.map(|program| {
            let path = program.build(&lab.cache)?;
            let counts = program.find(&splitlock, &path)?;
            Ok((program, path, counts))
        });
        found.collect::<Result<Vec<_>>>()
    })?;
    let kernels = lab.kernels(&args.kernel)?;
    let mut is_fine = true;
    for kernel in &kernels {
        let findings = step("`splitlock find --system`", || {
            guest::findings(&lab, kernel, &splitlock, &found)
        })?;
        print!("{}", findings.text);
        is_fine &= findings.is_fine;
    }
    let scenes = kernels.iter().map(|kernel| scene(kernel, &found));
    Ok(runner::run(&lab, scenes.collect())? && is_fine)
}

/// As it is installed: with the plugin beside it, which a release of the workspace has.
fn splitlock(lab: &Lab) -> Result<PathBuf> {
    const LIBRARY: &str = "libsplit_lock_plugin.so";
    let library = programs::release_library(&lab.cache, "split-lock-plugin", LIBRARY)?;
    let folder = lab.cache.folder("build/find");
    let place = || format!("cannot install splitlock in {}", folder.display());
    fs::create_dir_all(&folder).with_context(place)?;
    let splitlock = folder.join("splitlock");
    for (from, to) in [
        (lab.splitlock(), &splitlock),
        (&library, &folder.join(LIBRARY)),
    ] {
        fs::copy(from, to).with_context(place)?;
    }
    Ok(splitlock)
}

fn scene<'a>(kernel: &'a BootKernel, found: &'a [(&Program, PathBuf, Counts)]) -> Scene<'a> {
    let commands: Vec<_> = found
        .iter()
        .map(|(program, ..)| program.command())
        .collect();
    let judge = |outcome: &Outcome, _: &Path| judge(kernel, found, outcome);
    let mut scene = Scene::new("find", kernel, LIMITS, commands, judge);
    scene.options.bus_lock_ns = BUS_LOCK.subsec_nanos();
    scene.options.journal_locks = true;
    let files = found.iter().map(|(_, path, _)| path.clone());
    scene.script.files = files.map(PlacedFile::in_root).collect();
    scene
}

impl Program {
    fn build(&self, cache: &Cache) -> Result<PathBuf> {
        let folder = workspace().join("crates/split-lock-plugin/tests/programs");
        let program = cache.folder("build").join(self.name);
        let sources: Vec<_> = self.sources.iter().map(|it| folder.join(it)).collect();
        programs::compile(&program, self.options, &sources)
            .with_context(|| format!("cannot compile {}", self.name))?;
        Ok(program)
    }

    /// In the emulator, here.
    fn find(&self, splitlock: &Path, path: &Path) -> Result<Counts> {
        let mut command = process::Command::new(splitlock);
        command
            .args(["find", "--json", "--"])
            .arg(path)
            .args(self.arguments);
        let output = command.output().context("cannot run splitlock")?;
        let said = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let found: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("`splitlock find` printed no JSON: {}", said()))?;
        ensure!(
            output.status.code() == Some(self.exit_code) && found["complete"] == true,
            "{} ended with {} in the emulator: {}",
            self.name,
            output.status,
            said()
        );
        counts_of(&found).context("`splitlock find` printed something else than it promises")
    }

    /// After a pause in which detection comes back on.
    fn command(&self) -> Command {
        let line = self.line(self.name);
        Command::shell(self.name, &format!("sleep 1; {line}"))
    }

    /// For a shell, by that name in the root; it fails if the program does not end as it has to.
    fn line(&self, name: &str) -> String {
        let arguments = self.arguments.join(" ");
        format!("/{name} {arguments}; [ $? = {} ]", self.exit_code)
    }
}

fn counts_of(found: &Value) -> Option<Counts> {
    let sites = found["sites"].as_array()?.iter();
    sites.map(address_and_count).collect()
}

fn address_and_count(site: &Value) -> Option<(u64, u64)> {
    let address = hexadecimal(site["instruction"]["address"].as_str()?)?;
    Some((address, site["count"].as_u64()?))
}

fn judge(
    kernel: &BootKernel,
    found: &[(&Program, PathBuf, Counts)],
    outcome: &Outcome,
) -> Result<Findings> {
    let mut findings = Findings::new(&format!("\n{}, find", kernel.release));
    for (program, _, found) in found {
        outcome.printed(program.name)?;
        let (mut trapped, mut split) = (Counts::new(), Counts::new());
        for event in outcome.events_during(program.name)? {
            match event.kind {
                Kind::AlignmentCheck(_) => *trapped.entry(event.rip).or_default() += 1,
                Kind::BusLock(_) => *split.entry(event.rip).or_default() += 1,
                Kind::DebugException | Kind::TestCtrl(_) => {}
            }
        }
        let count = found.len();
        findings.check(
            &format!(
                "{}: the {} instructions at which the CPU raised #AC are the {count} that `splitlock find` names",
                program.name,
                trapped.len()
            ),
            trapped.keys().eq(found.keys()) && count > 0,
        );
        findings.check(
            &format!(
                "{}: the CPU let the {} split locks through that were found, instruction by instruction",
                program.name,
                found.values().sum::<u64>()
            ),
            split == *found,
        );
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_and_counts_are_read() {
        let site = |address: &str, count: u64| json!({"instruction": {"address": address}, "count": count});
        let found = json!({"sites": [site("0x401136", 3), site("0x10000000", 5)]});
        let counts = counts_of(&found).unwrap();
        assert_eq!(counts, [(0x40_1136, 3), (0x1000_0000, 5)].into());
        assert_eq!(counts_of(&json!({})), None);
        assert_eq!(counts_of(&json!({"sites": [site("main", 3)]})), None);
    }
}
