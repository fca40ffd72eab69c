//! Help, and mistakes on the command line.

use super::{fail, run, succeed};

#[test]
fn every_command_has_help_with_an_example() {
    for command in [
        "sweep",
        "plot",
        "reproduce",
        "simulate",
        "thresholds",
        "policies",
    ] {
        let help = succeed(&[command, "--help"]);
        assert!(help.contains(&format!("splitlock {command} ")), "{help}");
        assert!(help.contains("Example"), "{help}");
    }
    assert!(succeed(&["--version"]).starts_with("splitlock 0."));
}

#[test]
fn without_a_command_there_is_help_and_an_error() {
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Usage"));
}

#[test]
fn mistakes_are_named_in_one_sentence() {
    for (arguments, expected) in [
        (&["swep"][..], "swep"),
        (&["sweep", "--timeouts", "0ms"], "zero"),
        (&["sweep", "--timeouts", "-5ms"], "negative"),
        (&["sweep", "--timeouts", "5"], "no duration"),
        (&["sweep", "--timeouts", "soon"], "no duration"),
        (&["sweep", "--timeouts", "1ms..5ms"], "no step"),
        (&["sweep", "--timeouts", "5ms..1ms/1ms"], "ends before"),
        (&["sweep", "--timeouts", "9000h"], "too long"),
        (&["sweep", "--repeat", "0"], "--repeat"),
        (&["sweep", "--repeat", "4000000000"], "too many"),
        (&["sweep", "--vcpus", "65"], "--vcpus"),
        (
            &["sweep", "--guest", "nobody"],
            "there is no guest `nobody`",
        ),
        (&["sweep", "--guest", "split@64"], "0 to 63"),
        (&["sweep", "--guest", "page@3"], "takes no offset"),
        (&["sweep", "--offsets", "0..64"], "0 to 63"),
        (
            &["sweep", "--guest", "page", "--offsets", "0..63"],
            "takes no offset",
        ),
        (&["sweep", "--neighbour", "split"], "--vcpus 2"),
        (&["sweep", "--level", "ring0"], "ring0"),
        (&["sweep", "--counter", "eip"], "eip"),
        (&["sweep", "--csv", "-", "--json", "-"], "same place"),
        (&["plot", "a.csv"], "--out"),
        (&["plot", "--out", "a.svg"], "FILE"),
        (&["plot", "a.csv", "--out", "a.gif"], ".svg, .png or .html"),
    ] {
        let sentence = fail(arguments);
        assert!(sentence.contains(expected), "{arguments:?}: {sentence}");
    }
}
