//! `splitlock policies`

use std::thread;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use split_lock_model::kernel::Profile;
use split_lock_model::policy::{Alternative, Assessment, CompareError, Comparison};
use split_lock_report::{figure, policies};

use crate::args::model::PoliciesArgs;
use crate::exit::Exit;
use crate::picture_file::PictureFile;
use crate::{stdout, terminal};

pub(crate) fn run(args: &PoliciesArgs) -> Result<Exit> {
    let picture = args.out.as_deref().map(PictureFile::prepare).transpose()?;
    let plan = Comparison::default();
    let found = assess_all(&plan, &args.kernel)?;
    if let Some(file) = picture {
        file.write(&figure::policies(&args.kernel, &plan, &found))?;
    }
    let text = if args.json {
        stdout::json(&json!({
            "schema": "splitlock-policies",
            "schema_version": 1,
            "kernel": args.kernel,
            "conditions": plan,
            "durations_in": "ns",
            "policies": found,
        }))?
    } else {
        policies::text(&args.kernel, &plan, &found, terminal::width())
    };
    stdout::print(&text)?;
    Ok(Exit::Fine)
}

/// Each alternative is simulated on a thread of its own.
fn assess_all(plan: &Comparison, kernel: &Profile) -> Result<Vec<Assessment>> {
    let template = "{msg} {wide_bar} {pos}/{len}";
    let style = ProgressStyle::with_template(template).expect("a template of ours");
    let bar = ProgressBar::new(Alternative::ALL.len() as u64)
        .with_style(style)
        .with_message("policies");
    bar.tick();
    let found: Result<Vec<Assessment>, CompareError> = thread::scope(|scope| {
        let assess = |policy| {
            let bar = &bar;
            scope.spawn(move || plan.assess(policy, kernel).inspect(|_| bar.inc(1)))
        };
        let running = Alternative::ALL.map(assess);
        running
            .into_iter()
            .map(|thread| thread.join().expect("assessing does not panic"))
            .collect()
    });
    bar.finish_and_clear();
    Ok(found?)
}
