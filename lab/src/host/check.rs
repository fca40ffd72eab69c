//! Kernels held against the model.

use anyhow::Result;
use split_lock_model::analysis::Thresholds;

use super::args::CheckArgs;
use super::compare::compare;
use super::kernel::Kernel;
use super::lab::{Lab, Prepared};
use super::machine::Shape;
use super::summary::Summary;
use super::{output, plans};

pub(crate) fn run(args: &CheckArgs) -> Result<bool> {
    let lab = Lab::open()?;
    match Kernel::own(&args.own)? {
        Some(kernel) => check_kernel(args, &lab.prepare(&kernel, "")?),
        None => lab.with_each(&args.kernel, "", |prepared| check_kernel(args, prepared)),
    }
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
