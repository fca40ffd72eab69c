//! Help, and mistakes on the command line.

use std::fs::File;
use std::process::Stdio;

use super::{complaint, fail, has_kvm, needs_kvm, run, splitlock, succeed};

#[test]
fn without_a_command_there_is_help_and_an_error() {
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Usage"));
    assert!(succeed(&["--version"]).starts_with("splitlock 0."));
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
        (&["sweep", "--timeouts", "9000h"], "no duration"),
        (&["sweep", "--timeouts", "1M"], "no duration"),
        (&["sweep", "--timeouts", "9000s"], "too long"),
        (&["sweep", "--repeat", "0"], "--repeat"),
        (&["sweep", "--repeat", "4000000000"], "too many"),
        (&["sweep", "--vcpus", "65"], "--vcpus"),
        (
            &["sweep", "--warm-up", "4000000000"],
            "warm-up runs are too many",
        ),
        (&["reproduce", "--repeat", "4000000000"], "too many"),
        (&["sweep", "--guest", "none,split,none"], "asked for twice"),
        (
            &["sweep", "--offsets", "0..3", "--vcpus", "2"],
            "--neighbour",
        ),
        (
            &["sweep", "--guest", "nobody"],
            "there is no guest `nobody`",
        ),
        (&["sweep", "--guest", "split@64"], "0 to 63"),
        (&["sweep", "--guest", "page@3"], "takes no offset"),
        (&["sweep", "--guest", "sparse:soon"], "no duration"),
        (&["sweep", "--guest", "sparse:0s"], "longer time than zero"),
        (&["sweep", "--guest", "split:1ms"], "`sparse:1ms`"),
        (
            &["sweep", "--guest", "sparse,sparse:1000us"],
            "`sparse:1ms` is asked for twice",
        ),
        (&["sweep", "--offsets", "0..64"], "0 to 63"),
        (
            &["sweep", "--guest", "page", "--offsets", "0..63"],
            "takes no offset",
        ),
        (&["sweep", "--neighbour", "split"], "--vcpus 2"),
        (&["sweep", "--level", "ring0"], "ring0"),
        (&["sweep", "--counter", "eip"], "eip"),
        (&["sweep", "--csv", "-", "--json", "-"], "same place"),
        (&["plot", "-", "-", "--out", "a.svg"], "once"),
        (&["sweep", "--host", "7up"], "7up"),
        (
            &["sweep", "--on", "model", "--guest", "page"],
            "split and aligned",
        ),
        (
            &["sweep", "--on", "model", "--vcpus", "2"],
            "splitlock simulate",
        ),
        (
            &["sweep", "--on", "model", "--split-cost", "0ns"],
            "split_cost",
        ),
        (&["sweep", "--settle", "60s"], "too long"),
        (&["explain"], "--exe <FILE>|--pid <PID>"),
        (&["explain", "f0", "--exe", "a"], "cannot be used with"),
        (&["explain", "--exe", "a"], "--address"),
        (
            &["explain", "--exe", "a", "--address", "401136"],
            "0x401136",
        ),
        (
            &["explain", "--exe", "/dev/null", "--address", "0x1"],
            "no ordinary file",
        ),
        (
            &["explain", "--pid", "1", "--address", "0x1", "--rip", "0x1"],
            "cannot be used with",
        ),
        (
            &["explain", "f0", "--base", "0x1000"],
            "cannot be used with",
        ),
        (&["explain", "f0 4"], "`4`"),
        (&["explain", "f0"], "within the 1 bytes"),
        (&["explain", "90", "--reg", "rax"], "NAME=VALUE"),
        (&["explain", "90", "--reg", "rax=1,eax=1"], "given already"),
        (&["explain", "90", "--reg", "ds_base=0"], "64-bit code"),
        (&["explain", "90", "--host", "7up"], "7up"),
        (&["plot", "a.csv"], "--out"),
        (&["log"], "FILE"),
        (&["log", "-", "-"], "once"),
        (&["log", "-", "--format", "xml"], "xml"),
        (&["plot", "--out", "a.svg"], "FILE"),
        (&["demo", "linux"], "--kernel"),
        (&["demo", "windows"], "windows"),
        (
            &["demo", "linux", "--kernel", "a", "--memory", "5"],
            "256MiB",
        ),
        (
            &["demo", "linux", "--kernel", "a", "--quantum", "0ms"],
            "more than nothing",
        ),
        (&["demo", "linux", "--kernel", "a", "--guard", "dog"], "dog"),
        (&["plot", "a.csv", "--out", "a.gif"], ".svg, .png or .html"),
    ] {
        let sentence = fail(arguments);
        assert!(sentence.contains(expected), "{arguments:?}: {sentence}");
    }
}

#[test]
fn what_the_user_wrote_cannot_steer_the_terminal() {
    for arguments in [
        &["sweep", "--guest", "a\nb\u{1b}[31m"][..],
        &["sweep", "--timeouts", "1ms\u{1b}[31m"],
        &["sweep", "--csv", "/missing\n/\u{1b}[31m"],
        &["sw\u{1b}[31mp"],
    ] {
        let sentence = fail(arguments);
        let hostile = |c: char| c.is_control() && c != '\n';
        assert!(!sentence.contains(hostile), "{sentence:?}");
    }
}

#[test]
fn one_place_for_two_results_is_refused_whatever_it_is_called() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("x", folder.path().join("link")).unwrap();
    for (csv, json) in [("x", "./x"), ("x", "link"), ("-", "/dev/stdout")] {
        let output = splitlock(&["sweep", "--csv", csv, "--json", json])
            .current_dir(folder.path())
            .output();
        let sentence = complaint(&output.unwrap());
        assert!(sentence.contains("same place"), "{sentence}");
    }
}

/// `/dev/full` refuses every byte.
fn full() -> Stdio {
    File::options()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

#[test]
fn output_that_cannot_be_written_is_no_panic() {
    for arguments in [&["sweep", "--guest", "nobody"][..], &["swep"], &[]] {
        let status = splitlock(arguments).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(2), "{arguments:?}");
    }
    let quick = ["sweep", "--guest", "none", "--timeouts", "1ms"];
    for arguments in [&["--help"][..], &["--version"], &quick] {
        if arguments == quick && !has_kvm() {
            continue;
        }
        let mut command = splitlock(arguments);
        command.stdout(full()).stderr(Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        let sentence = complaint(&output);
        assert!(
            sentence.contains("cannot write to standard output: No space left"),
            "{sentence}"
        );
    }
}

#[test]
fn a_table_on_standard_output_is_alone_there() {
    needs_kvm!();
    let quick = ["sweep", "--guest", "none", "--timeouts", "1ms", "--csv"];
    let arguments = [&quick[..], &["/dev/stdout"]].concat();
    let is_table = |text: &str| split_lock_repro::results::Sweep::read_csv(text.as_bytes()).is_ok();
    assert!(is_table(&succeed(&arguments)));

    let file = tempfile::NamedTempFile::new().unwrap();
    let mut command = splitlock(&arguments);
    command.stdout(file.reopen().unwrap());
    assert!(command.status().unwrap().success());
    let text = std::fs::read_to_string(file.path()).unwrap();
    assert!(is_table(&text), "{text}");
}
