//! Kernels held against the model, trap by trap: each is booted on machines of several kinds, and tells of each trap by
//! its own trace, which has to agree with the CPU's journal first.

pub(crate) mod compare;
pub(crate) mod machines;
mod summary;

use std::collections::BTreeMap;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use split_lock_model::kernel::Profile;
use split_lock_model::policy::Alternative;

use self::compare::{MachineReport, compare};
use self::machines::MachinePlan;
use self::summary::Summary;
use crate::host::args::CheckArgs;
use crate::host::kernel::BootKernel;
use crate::host::machine::bochs::{Limits, Outcome};
use crate::host::machine::lab::Lab;
use crate::host::machine::runner::{self, Findings, Scene};
use crate::host::output;

/// The longest takes two minutes of guest time, most of which is idle.
const LIMITS: Limits = Limits::in_seconds(400, 1500);

/// The machine that is booted twice, and what its second boot is called.
const REPEATED: [&str; 2] = ["rate-limit", "rate-limit-again"];

/// Whether all kernels do what the model says.
pub(crate) fn run(args: &CheckArgs) -> Result<bool> {
    let plans = plans(args)?;
    let lab = Lab::open(plans.iter().map(|plan| plan.options.cpus))?;
    let checks = args
        .kernel
        .iter()
        .map(|name| Check::new(lab.kernel(name)?, args.profile.as_ref(), &plans));
    let checks = checks.collect::<Result<Vec<_>>>()?;
    let scenes = checks.iter().flat_map(Check::scenes).collect();
    let tried = runner::run(&lab, scenes);
    for check in checks {
        check.summarize(&lab)?;
    }
    tried
}

/// The machines that were asked for.
fn plans(args: &CheckArgs) -> Result<Vec<MachinePlan>> {
    let mut plans = match args.phases {
        None => MachinePlan::all(),
        Some(phases) => MachinePlan::at_phases(phases),
    };
    let names: Vec<&str> = plans.iter().map(|plan| plan.name).collect();
    let mut asked = args.machine.iter();
    if let Some(unknown) = asked.find(|name| !names.contains(&name.as_str())) {
        bail!(
            "there is no machine {unknown}: there are {}",
            names.join(", ")
        );
    }
    if !args.machine.is_empty() {
        plans.retain(|plan| args.machine.iter().any(|name| name == plan.name));
    }
    for plan in &mut plans {
        plan.options.seed = args.seed;
    }
    Ok(plans)
}

struct Check {
    kernel: BootKernel,
    /// What the model says that it does, whatever its tick rate.
    profile: Profile,
    plans: Vec<MachinePlan>,
    /// By the number of the plan.
    reports: Mutex<BTreeMap<usize, MachineReport>>,
    /// Of whichever boot of [`REPEATED`] was over first.
    journal: Mutex<Option<String>>,
}

impl Check {
    fn new(kernel: BootKernel, profile: Option<&Profile>, plans: &[MachinePlan]) -> Result<Self> {
        let release = &kernel.release;
        let parsed = profile.map_or_else(|| release.parse(), |profile| Ok(profile.clone()));
        let profile: Profile = parsed.with_context(|| {
            format!("the model does not know {release}: say with --profile what it is")
        })?;
        let mut own_plans = Vec::new();
        for plan in plans.iter().filter(|plan| plan.is_for(&profile)) {
            let plan = plan.fitted(&kernel);
            let plan = match kernel.policy() {
                Alternative::Upstream => plan,
                // Where a sleep's end and a signal meet is known of unmodified kernels.
                _ => plan.only_loops(),
            };
            let again = (plan.name == REPEATED[0]).then(|| plan.called(REPEATED[1]));
            own_plans.push(plan);
            own_plans.extend(again);
        }
        Ok(Self {
            kernel,
            profile,
            plans: own_plans,
            reports: Mutex::default(),
            journal: Mutex::default(),
        })
    }

    fn scenes(&self) -> impl Iterator<Item = Scene<'_>> {
        self.plans
            .iter()
            .enumerate()
            .map(move |(index, plan)| Scene {
                name: plan.name.to_owned(),
                kernel: &self.kernel,
                options: plan.options,
                boot_words: &plan.boot_words,
                script: plan.script(&self.kernel),
                limits: LIMITS,
                judge: Box::new(move |outcome, _folder| self.judge(index, plan, outcome)),
            })
    }

    fn judge(&self, index: usize, plan: &MachinePlan, outcome: &Outcome) -> Result<Findings> {
        let report = compare(&self.profile, self.kernel.policy().rules(), plan, outcome)?;
        let mut findings = Findings::new(&format!("\n{}", self.kernel.release));
        findings.say(report.text().trim_end());
        findings.is_fine = report.mismatches() == 0;
        if REPEATED.contains(&plan.name) {
            self.check_repeated(&mut findings, &outcome.journal_text);
        }
        let mut reports = self.reports.lock().expect("nobody panics with it");
        reports.insert(index, report);
        Ok(findings)
    }

    fn check_repeated(&self, findings: &mut Findings, journal: &str) {
        let mut other = self.journal.lock().expect("nobody panics with it");
        match &*other {
            None => *other = Some(journal.to_owned()),
            Some(other) => findings.check(
                "a second boot with the same seed has the same journal, to the byte",
                other == journal,
            ),
        }
    }

    fn summarize(self, lab: &Lab) -> Result<()> {
        let reports = self.reports.into_inner().expect("nobody panics with it");
        let summary = Summary::new(&self.kernel, reports.into_values().collect());
        let json = lab.results(&self.kernel, "comparison.json");
        output::write(&json, &serde_json::to_vec(&summary)?)?;
        print!("\n{}", summary.text(&json));
        Ok(())
    }
}
