//! `splitlock reproduce`

use super::{names_in, needs_kvm, read_csv, succeed};

#[test]
fn the_report_is_complete_and_is_replaced_by_the_next_one() {
    needs_kvm!();
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let arguments = [
        "reproduce",
        "--repeat",
        "1",
        "--out",
        report.to_str().unwrap(),
    ];
    let text = succeed(&arguments);
    assert!(text.contains("The report is "), "{text}");
    let first = read_csv(&report.join("progress.csv"));
    // Natively, aligned, where its split locks are punished, and with a guard.
    assert_eq!(first.samples.len(), 4 * 49);
    let names = names_in(&report);
    for name in [
        "report.html",
        "progress.svg",
        "progress.png",
        "progress.json",
        "offsets.csv",
        "sparse.csv",
        "programs.csv",
        "programs-modelled.csv",
        "programs.svg",
        "tasks.csv",
        "tasks.svg",
    ] {
        assert!(
            names.iter().any(|found| found == name),
            "{name} is missing: {names:?}"
        );
    }
    let page = std::fs::read_to_string(report.join("report.html")).unwrap();
    let detection = &first.provenance.as_ref().unwrap().host.detection;
    assert!(page.contains(detection.as_str()), "{detection}");

    succeed(&[&arguments[..], &["--no-png"]].concat());
    let names = names_in(&report);
    assert!(
        !names.iter().any(|name| name.ends_with(".png")),
        "{names:?}"
    );
    let second = read_csv(&report.join("progress.csv"));
    assert_ne!(first, second);
    assert_eq!(names_in(folder.path()), ["report"]);
}
