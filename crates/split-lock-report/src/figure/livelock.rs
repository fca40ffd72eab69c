//! The beginnings of simulated scenarios as a picture, each with a sentence about what becomes of it.

use split_lock_model::kernel::Profile;
use split_lock_model::sim::{Report, Scenario, ScenarioError, Verdict, simulate};
use split_lock_model::time::Nanos;

use super::{Picture, TimelinePanel, timeline};
use crate::timeline::{View, beginning};

/// Kicks shown of a thread that gets nowhere, and time shown of one that does.
const KICKS_WITHOUT_PROGRESS: u64 = 6;
const PROGRESS_SHOWN: Nanos = Nanos::from_millis(40);

/// Nobody sees a millisecond in a longer picture.
const MOST_SHOWN: Nanos = Nanos::from_secs(1);

/// Simulates scenarios on a kernel and draws the beginning of each: some kicks of what gets nowhere,
/// and 40 ms or some kicks of what does.
///
/// # Errors
/// If a scenario cannot be simulated.
pub fn livelock_timeline(
    kernel: &Profile,
    scenarios: &[Scenario],
) -> Result<Picture, ScenarioError> {
    let mut panels = vec![];
    for scenario in scenarios {
        let report = simulate(kernel, scenario)?;
        let period = scenario.tasks[0].kind.period().unwrap_or(Nanos::ZERO);
        let length = if report.tasks[0].turns == 0 && period > Nanos::ZERO {
            Nanos(period.0 * KICKS_WITHOUT_PROGRESS)
        } else {
            PROGRESS_SHOWN.max(Nanos(period.0 * 2))
        };
        let length = length.min(MOST_SHOWN);
        let from = beginning(scenario);
        panels.push(TimelinePanel {
            heading: heading(scenario, &report),
            view: View::of(kernel, scenario, from, length)?,
        });
    }
    let title = format!("Split locks on kernel {kernel}, as time goes by");
    Ok(timeline(&title, &panels))
}

fn heading(scenario: &Scenario, report: &Report) -> String {
    let timer = scenario.tasks[0]
        .kind
        .period()
        .map_or("No timer".into(), |period| format!("A timer of {period}"));
    let fate = match report.tasks[0].verdict {
        Verdict::Livelocked(_) => {
            "livelocked. Every signal ends the punishment early, with detection still on, and the \
             same instruction traps again"
        }
        Verdict::NoProgressSeen => {
            "no progress seen. Every signal came before the punishment was over, and the same \
             instruction trapped again"
        }
        Verdict::Slowed { .. } => {
            "it progresses. The sleep is served, detection goes off, and the instruction completes"
        }
        Verdict::WindowsUnused { .. } => {
            "windows unused. The sleep is served and detection goes off, and it is on again before \
             the thread comes to its instruction, which traps again"
        }
        Verdict::Progresses => "it progresses",
        Verdict::Dead => "ended by a signal",
    };
    format!("{timer}: {fate}.")
}
