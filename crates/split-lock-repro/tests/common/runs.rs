//! Sweeps, and guests with two tasks, run to their end.

use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::time::Duration;

use kvm_ioctls::Kvm;
use split_lock_repro::guest::{Guest, Level};
use split_lock_repro::results::Sample;
use split_lock_repro::sweep::{Event, Finished, Host, Plan, Scenario, Stop, SweepError, run};
use split_lock_repro::two_tasks::{Moment, TwoTasks};

/// Guests at CPL3, without a guard.
pub(crate) fn scenario(guests: Vec<Guest>, host: Host) -> Scenario {
    Scenario {
        guests,
        level: Level::Cpl3,
        host,
        guard: None,
    }
}

/// A few runs at each timeout.
pub(crate) fn plan(
    scenarios: Vec<Scenario>,
    timeouts_ms: impl IntoIterator<Item = u64>,
    repeats: u32,
) -> Plan {
    Plan {
        scenarios,
        timeouts: timeouts_ms.into_iter().map(Duration::from_millis).collect(),
        repeats,
        warm_up_runs: 1,
        settle: Duration::ZERO,
        seed: 5,
    }
}

pub(crate) fn samples(kvm: &Kvm, plan: &Plan) -> Result<Vec<Sample>, SweepError> {
    let mut samples = vec![];
    let finished = run(kvm, plan, &Stop::new(), &mut |event| {
        if let Event::Samples(new) = event {
            samples.extend(new);
        }
    })?;
    assert_eq!(finished, Finished::Complete);
    Ok(samples)
}

/// Long enough for any machine; the tests end when they have seen what they wait for.
pub(crate) fn two_tasks(split_locks: u64, host: Host) -> TwoTasks {
    TwoTasks {
        split_locks: NonZeroU64::new(split_locks).unwrap(),
        quantum: Duration::from_millis(1),
        length: Duration::from_secs(60),
        host,
        guard: None,
    }
}

/// All moments up to the first of which `is_over` is true.
pub(crate) fn moments(
    kvm: &Kvm,
    guest: &TwoTasks,
    mut is_over: impl FnMut(&[Moment]) -> bool,
) -> Vec<Moment> {
    let mut moments = vec![];
    let last = guest.run(kvm, &mut |moment| {
        moments.push(moment.clone());
        match is_over(&moments) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    assert_eq!(Some(&last.unwrap()), moments.last());
    moments
}

pub(crate) fn is_done(moment: &Moment) -> bool {
    moment.done_after.is_some()
}
