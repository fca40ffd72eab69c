//! Sweeps of real guests.

use std::time::{Duration, Instant};

use split_lock_repro::guest::Level;
use split_lock_repro::results::{Sample, Sweep};
use split_lock_repro::summary::{Point, Spread, curves};
use split_lock_repro::sweep::{Event, Finished, Host, Plan, Scenario, Stop, SweepError, run};

use split_lock_repro::guest::FileOptions;

use super::{Guest, detects_split_locks, file_guest, guest, kvm};

fn plan(scenarios: Vec<Vec<Guest>>, timeouts_ms: impl IntoIterator<Item = u64>) -> Plan {
    let level = Level::Cpl3;
    let scenarios = scenarios.into_iter().map(|guests| Scenario {
        guests,
        level,
        host: Host::Native,
        guard: None,
    });
    Plan {
        scenarios: scenarios.collect(),
        timeouts: timeouts_ms.into_iter().map(Duration::from_millis).collect(),
        repeats: 3,
        warm_up_runs: 1,
        settle: Duration::ZERO,
        seed: 5,
    }
}

fn samples(plan: &Plan) -> Option<Result<Vec<Sample>, SweepError>> {
    let mut samples = vec![];
    let finished = run(&kvm()?, plan, &Stop::new(), &mut |event| {
        if let Event::Samples(new) = event {
            samples.extend(new);
        }
    });
    Some(finished.map(|finished| {
        assert_eq!(finished, Finished::Complete);
        samples
    }))
}

#[test]
fn every_run_is_measured_and_never_ends_early() {
    let plan = plan(
        vec![vec![guest("split")], vec![guest("aligned")]],
        [1, 2, 5],
    );
    let Some(samples) = samples(&plan) else {
        return;
    };
    let samples = samples.unwrap();
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
        samples: samples.unwrap(),
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
    let samples = samples.unwrap();
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
    let Some(samples) = samples(&plan(
        vec![vec![file_guest(&code, FileOptions::default())]],
        [5],
    )) else {
        return;
    };
    for sample in samples.unwrap() {
        assert!(sample.exits > 0, "{sample:?}");
        assert!(sample.turns.abs_diff(sample.exits) <= 1, "{sample:?}");
    }
}

#[test]
fn a_guest_that_ends_is_an_error_that_names_it() {
    let crash = file_guest(&[0x0f, 0x0b], FileOptions::default());
    let Some(result) = samples(&plan(vec![vec![guest("none"), crash]], [5])) else {
        return;
    };
    let error = result.unwrap_err().to_string();
    assert!(
        error.contains("triple fault") && error.contains("vCPU 1"),
        "{error}"
    );
}

#[test]
fn a_sweep_can_be_stopped_in_the_middle_of_a_long_run() {
    let Some(kvm) = kvm() else { return };
    let plan = plan(vec![vec![guest("aligned"), guest("split")]], [600_000]);
    let plan = Plan {
        warm_up_runs: 0,
        ..plan
    };
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
    let crash = file_guest(&[0x0f, 0x0b], FileOptions::default());
    let plan = plan(vec![vec![guest("aligned"), crash]], [600_000]);
    let plan = Plan {
        warm_up_runs: 0,
        ..plan
    };
    let start = Instant::now();
    let Some(result) = samples(&plan) else { return };
    assert!(result.unwrap_err().to_string().contains("triple fault"));
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_plan_that_cannot_be_carried_out_is_refused_before_anything_runs() {
    let endless = Plan {
        repeats: u32::MAX,
        ..plan(vec![vec![guest("none")]], [1])
    };
    let Some(result) = samples(&endless) else {
        return;
    };
    assert!(matches!(result, Err(SweepError::Plan(_))), "{result:?}");
}
