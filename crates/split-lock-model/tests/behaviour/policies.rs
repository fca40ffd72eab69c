//! The page that argues from the comparison shows what the comparison gives.

use split_lock_model::policy::{Alternative, Assessment, Comparison};
use split_lock_model::sim::{Budget, Program, TaskSpec, Until, Verdict};
use split_lock_model::time::Nanos;

use crate::{next_to_others, profile};

const PAGE: &str = include_str!("../../../../docs/policies.md");

fn assess(kernel: &str) -> Vec<Assessment> {
    let kernel = profile(kernel);
    let comparison = Comparison::default();
    let assess = |&policy| comparison.assess(policy, &kernel).expect("can be compared");
    Alternative::ALL.iter().map(assess).collect()
}

fn on_the_page(kernel: &str) -> &'static str {
    let marker = format!("<!-- {kernel} -->\n");
    let (_, rest) = PAGE.split_once(&marker).expect("the page has this table");
    rest.split_once("\n\n").map_or(rest, |(table, _)| table)
}

/// The page's table of these assessments.
fn table(assessments: &[Assessment]) -> String {
    let stuck = |progress: &[_]| format!("{}/{}", Assessment::stuck(progress), progress.len());
    let mut table = String::from(
        "| policy | periods without progress, alone | beside four | attacker gains | bus asked for by five attackers | sparse splitter slowed beside them | longest signal delay (ms) |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for a in assessments {
        let (gain, bus) = (a.attack_gain(), 100.0 * a.crowd_bus_share);
        let (attacked, delay) = (a.sparse_slowdown, a.worst_signal_delay.as_millis_f64());
        table += &format!(
            "| {} | {} | {} | {gain:.2}x | {bus:.0}% | {attacked:.1}x | {delay:.2} |\n",
            a.policy,
            stuck(&a.progress),
            stuck(&a.contended),
        );
    }
    table
}

#[test]
fn the_page_shows_what_is_found_at_250_hz() {
    let kernel = "6.15,hz=250";
    let assessments = assess(kernel);
    let table = table(&assessments);
    assert_eq!(
        on_the_page(kernel),
        table.trim_end(),
        "print it anew:\n{table}"
    );
    check_claims(&assessments);
}

/// What the page argues with.
fn check_claims(assessments: &[Assessment]) {
    let of = |policy| {
        let mut all = assessments.iter();
        all.find(|a| a.policy == policy).expect("assessed")
    };
    let stuck = |policy| {
        let Assessment {
            progress,
            contended,
            ..
        } = of(policy);
        [progress, contended].map(|progress| Assessment::stuck(progress))
    };
    assert!(stuck(Alternative::Upstream)[0] > 0);
    for policy in [Alternative::RemainingSleep, Alternative::Proceed] {
        assert!(stuck(policy)[0] == 0 && stuck(policy)[1] > 0);
    }
    assert!(of(Alternative::Proceed).attack_gain() > 2.0);
    for policy in [Alternative::Killable, Alternative::FixedEnd] {
        assert_eq!(stuck(policy), [0, 0]);
        assert!((of(policy).attack_gain() - 1.0).abs() < 0.01);
    }
    let (killable, fixed_end) = (of(Alternative::Killable), of(Alternative::FixedEnd));
    // Three ticks, and some microseconds for the worker and the wake-up.
    let window = Nanos::from_micros(12_100);
    assert!(fixed_end.worst_signal_delay <= window && killable.worst_signal_delay.0 > 3 * window.0);
}

#[test]
fn a_comparison_of_nothing_is_refused() {
    let error = |comparison: Comparison, policy: Alternative, kernel| {
        let error = comparison.assess(policy, &profile(kernel));
        error.expect_err("refused").to_string()
    };
    let empty = Comparison {
        timeouts: Vec::new(),
        ..Comparison::default()
    };
    assert!(error(empty, Alternative::Upstream, "6.6").starts_with("timeouts:"));
    let refused = error(Comparison::default(), Alternative::Unmitigated, "5.19");
    assert!(refused.starts_with("mitigate:"));
}

/// A VMM on a grid of one tick, at this phase, next to threads that split without pause.
fn in_step(policy: Alternative, others: u32, phase: Nanos) -> Verdict {
    let guest = Program::split_loop(Nanos::from_micros(1)).expect("a program");
    let budget = Budget::Absolute(Nanos::from_millis(4));
    // The others have settled when it starts.
    let vcpu = TaskSpec::vcpu(guest, budget).starting_at(Nanos::from_millis(400));
    let mut scenario = next_to_others(others, guest, vcpu);
    (scenario.tick_phase, scenario.until) = (phase, Until::Cycle);
    let report = policy
        .simulate(&profile("6.15,hz=250"), &scenario)
        .expect("runs");
    report.tasks[others as usize].verdict
}

/// In steps of 1 us over a tick: at how many phases a VMM in step with the tick is livelocked.
fn livelocked_phases(policy: Alternative, others: u32) -> usize {
    let phases = (0..4_000).map(Nanos::from_micros);
    phases
        .filter(|&phase| in_step(policy, others, phase).is_livelock())
        .count()
}

#[test]
fn in_step_with_the_tick_the_remaining_sleep_never_shrinks() {
    assert_eq!(livelocked_phases(Alternative::Upstream, 0), 4_000);
    let unlucky = livelocked_phases(Alternative::RemainingSleep, 0);
    assert!((1..40).contains(&unlucky), "{unlucky}");
    assert_eq!(livelocked_phases(Alternative::FixedEnd, 0), 0);
    assert_eq!(livelocked_phases(Alternative::Killable, 0), 0);
}

#[test]
fn in_step_with_the_semaphore_nobody_is_passed_over_for_ever() {
    for policy in [Alternative::Killable, Alternative::FixedEnd] {
        assert_eq!(livelocked_phases(policy, 4), 0, "{policy}");
    }
}
