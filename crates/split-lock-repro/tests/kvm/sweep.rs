//! Sweeps of real guests.

use std::time::{Duration, Instant};

use split_lock_repro::results::{Sample, Sweep};
use split_lock_repro::summary::{Point, Spread, curves};
use split_lock_repro::sweep::{Finished, Host, Plan, Stop, SweepError, run};

use super::{Guest, detects_split_locks, file_guest, guest, kvm};
use crate::runs::{self, scenario};

fn plan(scenarios: Vec<Vec<Guest>>, timeouts_ms: impl IntoIterator<Item = u64>) -> Plan {
    let scenarios = scenarios.into_iter();
    let scenarios = scenarios.map(|guests| scenario(guests, Host::Native));
    runs::plan(scenarios.collect(), timeouts_ms, 3)
}

/// `None` without KVM.
fn samples(plan: &Plan) -> Option<Vec<Sample>> {
    Some(runs::samples(&kvm()?, plan).unwrap())
}

fn error_of(plan: &Plan) -> Option<SweepError> {
    Some(runs::samples(&kvm()?, plan).unwrap_err())
}

#[test]
fn every_run_is_measured_and_never_ends_early() {
    let guests = vec![vec![guest("split")], vec![guest("aligned")]];
    let plan = plan(guests, [1, 2, 5]);
    let Some(samples) = samples(&plan) else {
        return;
    };
    assert_eq!(samples.len() as u64, plan.samples());
    for sample in &samples {
        assert!(sample.elapsed_ns >= sample.timeout_ns, "{sample:?}");
        assert_eq!(sample.exits, 0, "{sample:?}");
        assert!(sample.turns > 0 || sample.guest == "split", "{sample:?}");
        assert_eq!(sample.series, "measured (native)");
    }
}

/// Proportional to the CPU time that the vCPU's thread got: a busy machine gives it less than the
/// timeout.
#[test]
fn without_detection_progress_is_proportional_to_time() {
    if detects_split_locks() {
        return;
    }
    let plan = plan(vec![vec![guest("split")]], (5..=40).step_by(5));
    let Some(samples) = samples(&plan) else {
        return;
    };
    let sweep = Sweep {
        provenance: None,
        samples,
    };
    let rates = |point: &Point| point.turns_per_cpu_s.median;
    let rates: Vec<f64> = curves(&sweep)[0].points.iter().map(rates).collect();
    let overall = Spread::of(rates.iter().copied()).unwrap().median;
    for rate in &rates {
        assert!((0.5..2.0).contains(&(rate / overall)), "{rates:?}");
    }
}

#[test]
fn neighbours_run_at_once_and_are_named() {
    let plan = plan(vec![vec![guest("aligned"), guest("none")]], [20]);
    let Some(samples) = samples(&plan) else {
        return;
    };
    assert_eq!(samples.len(), 6);
    for sample in samples {
        let (name, neighbour) = [("aligned", "none"), ("none", "aligned")][sample.vcpu as usize];
        assert_eq!(sample.guest, name);
        assert_eq!(
            sample.series,
            format!("measured (native); beside 1 x {neighbour}")
        );
    }
}

#[test]
fn exits_are_counted() {
    // 1: inc rcx; out 0xe9, al; jmp 1b
    let code = [0x48, 0xff, 0xc1, 0xe6, 0xe9, 0xeb, 0xf9];
    let guest = file_guest(&code);
    let Some(samples) = samples(&plan(vec![vec![guest]], [5])) else {
        return;
    };
    for sample in samples {
        assert!(sample.exits > 0, "{sample:?}");
        assert!(sample.turns.abs_diff(sample.exits) <= 1, "{sample:?}");
    }
}

#[test]
fn a_guest_that_ends_is_an_error_that_names_it() {
    let crash = file_guest(&[0x0f, 0x0b]);
    let plan = plan(vec![vec![guest("none"), crash]], [5]);
    let Some(error) = error_of(&plan) else { return };
    let error = error.to_string();
    assert!(
        error.contains("triple fault") && error.contains("vCPU 1"),
        "{error}"
    );
}

#[test]
fn a_sweep_can_be_stopped_in_the_middle_of_a_long_run() {
    let Some(kvm) = kvm() else { return };
    let mut plan = plan(vec![vec![guest("aligned"), guest("split")]], [600_000]);
    plan.warm_up_runs = 0;
    let stop = Stop::new();
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            stop.request();
        });
        let finished = run(&kvm, &plan, &stop, &mut |event| panic!("{event:?}"));
        assert_eq!(finished.unwrap(), Finished::Stopped);
    });
    assert!(start.elapsed() < Duration::from_secs(60));
    // And one that is stopped before it begins does nothing.
    let finished = run(&kvm, &plan, &stop, &mut |event| panic!("{event:?}"));
    assert_eq!(finished.unwrap(), Finished::Stopped);
}

/// The others would go on for their whole timeout otherwise.
#[test]
fn a_guest_that_ends_ends_the_run_of_its_neighbours() {
    let crash = file_guest(&[0x0f, 0x0b]);
    let mut plan = plan(vec![vec![guest("aligned"), crash]], [600_000]);
    plan.warm_up_runs = 0;
    let start = Instant::now();
    let Some(error) = error_of(&plan) else { return };
    assert!(error.to_string().contains("triple fault"));
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_plan_that_cannot_be_carried_out_is_refused_before_anything_runs() {
    let mut endless = plan(vec![vec![guest("none")]], [1]);
    endless.repeats = u32::MAX;
    let Some(error) = error_of(&endless) else {
        return;
    };
    assert!(matches!(error, SweepError::Plan(_)), "{error:?}");
}
