//! `splitlock simulate`

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use indicatif::ProgressBar;
use split_lock_model::kernel::Profile;
use split_lock_model::sim::{Scenario, TaskReport, Until, simulate};
use split_lock_model::time::Nanos;
use split_lock_model::trace;
use split_lock_report::figure::livelock_timeline;
use split_lock_report::timeline::{self, View};

use crate::args::model::{FailOn, SimulateArgs};
use crate::exit::Exit;
use crate::kernel_choice::asked_or_of_this_host;
use crate::output::Output;
use crate::picture_file::PictureFile;
use crate::stdout;

mod answer;
mod scenario;

use answer::{as_json, as_text, has_unused_windows};
use scenario::scenario;

const SHOWN: Nanos = Nanos::from_millis(30);

/// How much of it goes into a trace, and how many spans at most.
const TRACED: Nanos = Nanos::from_secs(1);
const TRACED_SPANS: usize = 1_000_000;

pub(crate) fn run(args: &SimulateArgs) -> Result<Exit> {
    let (kernel, assumed) = asked_or_of_this_host(args.kernel.as_ref())?;
    let scenario = scenario(args, args.timeout)?;
    if args.json && args.trace.as_deref() == Some(Path::new("-")) {
        bail!("--json and --trace - would write to the same place");
    }
    let trace = args.trace.as_deref().map(Output::prepare).transpose()?;
    let picture = args.picture.as_deref();
    let picture = picture.map(PictureFile::prepare).transpose()?;

    let busy = ProgressBar::new_spinner().with_message("simulating");
    busy.enable_steady_tick(Duration::from_millis(250));
    let report = simulate(&kernel, &scenario);
    busy.finish_and_clear();
    let report = report?;

    if let Some(file) = picture {
        let other = args
            .compare
            .map(|timeout| scenario::scenario(args, timeout));
        let scenarios: Vec<_> = [scenario.clone()]
            .into_iter()
            .chain(other.transpose()?)
            .collect();
        file.write(&livelock_timeline(&kernel, &scenarios)?)?;
    }
    let text = if args.json {
        stdout::json(&as_json(&kernel, assumed.as_deref(), &scenario, &report))?
    } else {
        let view = View::of(&kernel, &scenario, timeline::beginning(&scenario), SHOWN)?;
        as_text(&kernel, assumed.as_deref(), &scenario, &report, &view)
    };
    match trace {
        Some(Output::Standard) => write_trace(Output::Standard, &kernel, &scenario)?,
        Some(file) => {
            write_trace(file, &kernel, &scenario)?;
            stdout::print(&text)?;
        }
        None => stdout::print(&text)?,
    }
    let found = match args.fail_on {
        Some(FailOn::Livelock) => report.tasks.iter().any(TaskReport::is_stuck),
        Some(FailOn::WindowsUnused) => has_unused_windows(&report),
        None => false,
    };
    Ok(if found { Exit::Found } else { Exit::Fine })
}

fn write_trace(to: Output, kernel: &Profile, scenario: &Scenario) -> Result<()> {
    let traced = Scenario {
        horizon: scenario.horizon.min(TRACED),
        until: Until::Horizon,
        trace_spans: TRACED_SPANS,
        ..scenario.clone()
    };
    let timeline = simulate(kernel, &traced)?.timeline;
    let events = trace::to_chrome_json(timeline.as_ref().expect("a trace was asked for"));
    to.write(|out| Ok(serde_json::to_writer(out, &events)?))
}
