//! The kselftest of split locks: kernels with a change pass it, and those without fail it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use split_lock_lab::cpu::script::{Command, PlacedFile};
use split_lock_model::policy::Alternative;

use crate::host::args::Kernels;
use crate::host::cache::{Cache, workspace};
use crate::host::kernel::BootKernel;
use crate::host::machine::bochs::{Limits, Outcome};
use crate::host::machine::lab::Lab;
use crate::host::machine::outputs::output_of;
use crate::host::machine::runner::{self, Findings, Scene};
use crate::host::programs;
use crate::host::step::step;

const LIMITS: Limits = Limits::in_seconds(120, 900);

/// The test, and the only command of a scene.
const TEST: &str = "split_lock";

/// One for the task that is looked at, one for its neighbours.
const CPUS: u8 = 2;

/// The tests of livelocks; the others pass on every kernel.
const LIVELOCK_TESTS: u32 = 4;

/// Whether each kernel fares as it should.
pub(crate) fn run(args: &Kernels) -> Result<bool> {
    let lab = Lab::open([CPUS])?;
    let kernels = lab.kernels(&args.kernel)?;
    let test = step("building the kselftest", || build(&lab.cache))?;
    let scenes = kernels.iter().map(|kernel| scene(kernel, &test));
    runner::run(&lab, scenes.collect())
}

fn build(cache: &Cache) -> Result<PathBuf> {
    let program = cache.folder("build/selftest").join(TEST);
    let options = ["-O2", "-std=gnu99", "-Wall", "-Werror", "-static"];
    let source = workspace().join("lab/patch/split_lock.c");
    programs::compile(&program, &options, &[source])
        .context("the kselftest needs a C compiler and a static C library")?;
    Ok(program)
}

fn scene<'a>(kernel: &'a BootKernel, test: &Path) -> Scene<'a> {
    let command = Command::new(TEST, &format!("/{TEST}"));
    let judge = |outcome: &Outcome, _: &Path| judge(kernel, outcome);
    let mut scene = Scene::new("selftest", kernel, LIMITS, [command], judge).with_kvm();
    scene.options.cpus = CPUS;
    scene.script.files = vec![PlacedFile::in_root(test.to_owned())];
    scene
}

fn judge(kernel: &BootKernel, outcome: &Outcome) -> Result<Findings> {
    let [tap, complaints, code] = output_of(&outcome.bundles, TEST)?;
    let mut findings = Findings::new(&format!("\n{}, kselftest", kernel.release));
    findings.say(tap.trim_end());
    if !complaints.is_empty() {
        findings.say(complaints.trim_end());
    }
    if kernel.policy() != Alternative::Upstream {
        findings.check("the changed kernel passes", code == "0");
        findings.check("none of the tests is skipped", !tap.contains("# SKIP"));
    } else {
        findings.check("the unmodified kernel fails", code == "1");
        let fails = (1..=LIVELOCK_TESTS).all(|test| tap.contains(&format!("not ok {test} ")));
        findings.check("each of the tests of livelocks fails", fails);
        let others = tap.matches("not ok ").count();
        findings.check("no other test fails", others == LIVELOCK_TESTS as usize);
    }
    Ok(findings)
}
