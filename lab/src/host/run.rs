//! The lab's commands.

use anyhow::Result;
use split_lock_model::analysis::Thresholds;

use super::args::{CheckArgs, DemoArgs, FetchArgs, ToolsArgs, WatchArgs};
use super::cache::Cache;
use super::compare::compare;
use super::kernel::Kernel;
use super::lab::{Lab, Prepared};
use super::machine::{Qemu, Shape};
use super::step::step;
use super::summary::Summary;
use super::{demo, output, plans, tools, watch};

pub(crate) fn fetch(args: &FetchArgs) -> Result<bool> {
    let cache = Cache::new();
    let _alone = cache.lock()?;
    step("fetching QEMU", || Qemu::get(&cache))?;
    step("fetching busybox", || demo::busybox(&cache))?;
    for series in &args.kernel {
        step(&format!("fetching Debian's kernel {series}"), || {
            Kernel::debian(series, &cache)
        })?;
    }
    Ok(true)
}

pub(crate) fn check(args: &CheckArgs) -> Result<bool> {
    let lab = Lab::open()?;
    match Kernel::own(&args.own)? {
        Some(kernel) => check_kernel(args, &lab.prepare(&kernel)?),
        None => lab.with_each(&args.kernel, |prepared| check_kernel(args, &prepared)),
    }
}

pub(crate) fn run_tools(args: &ToolsArgs) -> Result<bool> {
    let series = std::slice::from_ref(&args.kernel);
    Lab::open()?.with_each(series, |prepared| tools::run(args, prepared))
}

pub(crate) fn run_demo(args: &DemoArgs) -> Result<bool> {
    Lab::open()?.with_each(&args.kernel, demo::run)
}

pub(crate) fn run_watch(args: &WatchArgs) -> Result<bool> {
    Lab::open()?.with_each(&args.kernel, watch::run)
}

/// Boots one kernel in every shape of machine, and compares.
fn check_kernel(args: &CheckArgs, prepared: &Prepared<'_>) -> Result<bool> {
    let kernel = prepared.kernel;
    let mut summary = Summary::new(kernel);
    for shape in Shape::all_for(kernel, args.real_clock) {
        let plan = plans::plan(shape, args.phases);
        let what = format!("booting {} with {}", kernel.release, shape.name());
        let bundles = prepared.boot(&what, shape, &plan, &[])?;
        let experiments = plan.experiments.iter();
        let compared: Result<Vec<_>> = experiments
            .map(|experiment| compare(&kernel.profile, shape, experiment, &bundles))
            .collect();
        summary.add(shape, compared?);
    }
    let json = prepared.results.join("comparison.json");
    output::write(&json, &serde_json::to_vec(&summary)?)?;
    let limits = Thresholds::of(&kernel.profile);
    print!("{}", summary.text(limits.as_ref(), &json));
    Ok(summary.agrees(limits.as_ref()))
}
