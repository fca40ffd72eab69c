//! The page that argues from the comparison shows what the comparison gives.

use split_lock_model::machine::{CpuId, Topology};
use split_lock_model::policy::{Alternative, Assessment, Comparison, markdown};
use split_lock_model::sim::{Budget, Program, Scenario, TaskSpec, Until, Verdict, simulate_policy};
use split_lock_model::time::Nanos;

const PAGE: &str = include_str!("../../../docs/policies.md");

fn assess(kernel: &str) -> Vec<Assessment> {
    let kernel = kernel.parse().expect("a profile");
    let comparison = Comparison::default();
    let assess = |&policy| comparison.assess(policy, &kernel).expect("can be compared");
    Alternative::ALL.iter().map(assess).collect()
}

fn on_the_page(kernel: &str) -> &'static str {
    let marker = format!("<!-- {kernel} -->\n");
    let (_, rest) = PAGE.split_once(&marker).expect("the page has this table");
    rest.split_once("\n\n").map_or(rest, |(table, _)| table)
}

#[test]
fn the_page_shows_what_the_program_prints_at_250_hz() {
    let assessments = assess("6.15,hz=250");
    let printed = markdown(&assessments);
    assert_eq!(
        on_the_page("6.15,hz=250"),
        printed.trim_end(),
        "print it anew: see the page"
    );
    check_claims(&assessments);
}

#[test]
fn the_page_shows_what_the_program_prints_at_1000_hz() {
    let printed = markdown(&assess("6.15,hz=1000"));
    assert_eq!(
        on_the_page("6.15,hz=1000"),
        printed.trim_end(),
        "print it anew: see the page"
    );
}

/// What the page argues with.
fn check_claims(assessments: &[Assessment]) {
    let of = |policy| {
        assessments
            .iter()
            .find(|a| a.policy == policy)
            .expect("assessed")
    };
    let stuck = |policy| {
        let assessment: &Assessment = of(policy);
        (
            Assessment::stuck(&assessment.progress),
            Assessment::stuck(&assessment.contended),
        )
    };
    assert!(stuck(Alternative::Upstream).0 > 0);
    assert!(stuck(Alternative::Debt).0 == 0 && stuck(Alternative::Debt).1 > 0);
    assert!(stuck(Alternative::Proceed).0 == 0 && stuck(Alternative::Proceed).1 > 0);
    assert!(of(Alternative::Proceed).attack_gain() > 2.0);
    for policy in [Alternative::Killable, Alternative::Sentence] {
        assert_eq!(stuck(policy), (0, 0));
        assert!((of(policy).attack_gain() - 1.0).abs() < 0.01);
    }
    let (killable, sentence) = (of(Alternative::Killable), of(Alternative::Sentence));
    assert!(killable.worst_signal_delay.0 > 100 * sentence.worst_signal_delay.0);
}

#[test]
fn a_comparison_of_nothing_is_refused() {
    let kernel = "6.6".parse().expect("a profile");
    let empty = Comparison {
        timeouts: Vec::new(),
        ..Comparison::default()
    };
    let error = empty
        .assess(Alternative::Upstream, &kernel)
        .expect_err("refused");
    assert!(error.to_string().starts_with("timeouts:"));
    let old = "5.19".parse().expect("a profile");
    let error = Comparison::default()
        .assess(Alternative::Unmitigated, &old)
        .expect_err("refused");
    assert!(error.to_string().starts_with("mitigate:"));
}

/// A VMM on a grid of one tick, at this phase, next to threads that split without pause.
fn in_step(policy: Alternative, others: u32, phase: Nanos) -> Verdict {
    let guest = Program::split_loop(Nanos::from_micros(1)).expect("a program");
    let mut tasks: Vec<_> = (1..=others)
        .map(|cpu| TaskSpec::user(guest, None).on(CpuId(cpu)))
        .collect();
    let budget = Budget::Absolute(Nanos::from_millis(4));
    // The others have settled when it starts.
    tasks.push(TaskSpec::vcpu(guest, budget).starting_at(Nanos::from_millis(400)));
    let machine = Topology::new(others + 1, 1).expect("a machine");
    let mut scenario = Scenario::new(machine, tasks);
    (scenario.tick_phase, scenario.until) = (phase, Until::Cycle);
    let kernel = "6.15,hz=250".parse().expect("a profile");
    let handler = policy
        .handler(&kernel, machine, scenario.hardware)
        .expect("a policy");
    let report = simulate_policy(handler, kernel.hz(), &scenario).expect("runs");
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
fn in_step_with_the_tick_debt_is_never_paid_off() {
    assert_eq!(livelocked_phases(Alternative::Upstream, 0), 4_000);
    let unlucky = livelocked_phases(Alternative::Debt, 0);
    assert!((1..40).contains(&unlucky), "{unlucky}");
    assert_eq!(livelocked_phases(Alternative::Sentence, 0), 0);
    assert_eq!(livelocked_phases(Alternative::Killable, 0), 0);
}

#[test]
fn in_step_with_the_semaphore_a_sentenced_thread_can_be_away_each_time() {
    let unlucky = livelocked_phases(Alternative::Sentence, 4);
    println!("{unlucky} of 4000 phases");
    assert!((1..40).contains(&unlucky), "{unlucky}");
    assert_eq!(livelocked_phases(Alternative::Killable, 4), 0);
}
