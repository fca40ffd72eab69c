//! The page that argues from the comparison shows what the comparison gives.

use split_lock_model::policy::{Alternative, Assessment, Comparison, markdown};

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
