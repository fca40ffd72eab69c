//! The lab's commands.

use anyhow::Result;
use split_lock_model::analysis::Thresholds;

use super::args::{CheckArgs, DemoArgs, FetchArgs, ToolsArgs, WatchArgs};
use super::cache::Cache;
use super::compare::compare;
use super::initramfs::{self, Programs};
use super::kernel::Kernel;
use super::machine::Qemu;
use super::step::step;
use super::summary::Summary;
use super::{busybox, demo, module, output, plans, tools, watch};

pub(crate) fn fetch(args: &FetchArgs) -> Result<bool> {
    let cache = Cache::new();
    let _alone = cache.lock()?;
    step("fetching QEMU", || Qemu::get(&cache))?;
    step("fetching busybox", || busybox::get(&cache))?;
    for series in &args.kernel {
        step(&format!("fetching Debian's kernel {series}"), || {
            Kernel::debian(series, &cache)
        })?;
    }
    Ok(true)
}

pub(crate) fn check(args: &CheckArgs) -> Result<bool> {
    let cache = Cache::new();
    let _alone = cache.lock()?;
    let (qemu, programs) = prepare(&cache)?;
    if let Some(kernel) = Kernel::own(&args.own)? {
        return check_kernel(&kernel, args, &cache, &qemu, &programs);
    }
    let mut agrees = true;
    for series in &args.kernel {
        let kernel = step(&format!("Debian's kernel {series}"), || {
            Kernel::debian(series, &cache)
        })?;
        agrees &= check_kernel(&kernel, args, &cache, &qemu, &programs)?;
    }
    Ok(agrees)
}

pub(crate) fn run_tools(args: &ToolsArgs) -> Result<bool> {
    let cache = Cache::new();
    let _alone = cache.lock()?;
    let (qemu, programs) = prepare(&cache)?;
    let kernel = step(&format!("Debian's kernel {}", args.kernel), || {
        Kernel::debian(&args.kernel, &cache)
    })?;
    tools::run(args, &kernel, &cache, &qemu, &programs)
}

pub(crate) fn run_demo(args: &DemoArgs) -> Result<bool> {
    with_each(&args.kernel, demo::run)
}

pub(crate) fn run_watch(args: &WatchArgs) -> Result<bool> {
    with_each(&args.kernel, watch::run)
}

/// Does something with each of Debian's kernels; whether all of it was fine.
fn with_each(
    series: &[String],
    act: impl Fn(&Kernel, &Cache, &Qemu, &Programs) -> Result<bool>,
) -> Result<bool> {
    let cache = Cache::new();
    let _alone = cache.lock()?;
    let (qemu, programs) = prepare(&cache)?;
    let mut is_fine = true;
    for series in series {
        let kernel = step(&format!("Debian's kernel {series}"), || {
            Kernel::debian(series, &cache)
        })?;
        is_fine &= act(&kernel, &cache, &qemu, &programs)?;
    }
    Ok(is_fine)
}

/// What every machine needs, whatever kernel it boots.
fn prepare(cache: &Cache) -> Result<(Qemu, Programs)> {
    let qemu = step("QEMU", || Qemu::get(cache))?;
    let programs = step("building the programs for the machine", || {
        initramfs::build_programs(cache)
    })?;
    Ok((qemu, programs))
}

/// Boots one kernel in every shape of machine, and compares.
fn check_kernel(
    kernel: &Kernel,
    args: &CheckArgs,
    cache: &Cache,
    qemu: &Qemu,
    programs: &Programs,
) -> Result<bool> {
    let module = step("building the module", || module::build(kernel, cache))?;
    let folder = cache.results(&kernel.release);
    let mut summary = Summary::new(kernel);
    for shape in kernel.shapes(args.real_clock) {
        let plan = plans::plan(shape, args.phases);
        let archive = initramfs::pack(kernel, programs, &module, &plan)?;
        let what = format!("booting {} with {}", kernel.release, shape.name());
        let bundles = step(&what, || qemu.boot(kernel, &archive, shape, &folder))?;
        let experiments = plan.experiments.iter();
        let compared: Result<Vec<_>> = experiments
            .map(|experiment| compare(&kernel.profile, shape, experiment, &bundles))
            .collect();
        summary.add(shape, compared?);
    }
    let json = folder.join("comparison.json");
    output::write(&json, &serde_json::to_vec(&summary)?)?;
    let limits = Thresholds::of(&kernel.profile);
    print!("{}", summary.text(limits.as_ref(), &json));
    Ok(summary.agrees(limits.as_ref()))
}
