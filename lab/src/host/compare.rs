//! From bundles to a verdict.

use anyhow::{Result, bail};
use serde::Serialize;
use split_lock_lab::bundle::Bundles;
use split_lock_lab::journal::{self, Event, State};
use split_lock_lab::plan::Experiment;
use split_lock_lab::replay::{Machine, Report, Ticks, replay};
use split_lock_model::handler::Rules;
use split_lock_model::kernel::Profile;
use split_lock_model::machine::{Hardware, Topology};

use super::lab::bytes;
use super::machine::Shape;

/// One experiment, held against the model.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) experiment: Experiment,
    pub(crate) state: State,
    pub(crate) report: Report,
    #[serde(skip)]
    pub(crate) journal: Vec<Event>,
}

pub(crate) fn compare(
    profile: &Profile,
    shape: Shape,
    experiment: &Experiment,
    bundles: &Bundles,
) -> Result<Comparison> {
    let part = |part: &str| bytes(bundles, &format!("{}.{part}", experiment.name));
    let state: State = serde_json::from_slice(part("state")?)?;
    if state.lost > 0 {
        bail!(
            "{}: {} events found the journal full",
            experiment.name,
            state.lost
        );
    }
    if state.hz != profile.hz().get() {
        bail!(
            "the kernel ticks {} times a second, and {profile} does not: say hz={0} in its profile",
            state.hz
        );
    }
    let journal = journal::parse(part("journal")?)?;
    let profile = if experiment.mitigate {
        profile.clone()
    } else {
        profile.with_mitigate(false)?
    };
    let ticks = Ticks::new(&state)?;
    let machine = Machine {
        hardware: Hardware::ICE_LAKE,
        topology: Topology::new(shape.cpus(), 1)?,
        ticks,
    };
    let report = replay(&profile, Rules::UPSTREAM, &machine, &journal);
    Ok(Comparison {
        experiment: experiment.clone(),
        state,
        report,
        journal,
    })
}
