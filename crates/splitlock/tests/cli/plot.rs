//! `splitlock plot`

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::{complaint, fail, fifo, names_in, put, signal, splitlock, succeed};

/// Two guests at two timeouts.
const TABLE: &str = "series,guest,host,vcpu,timeout_ns,run,turns,elapsed_ns,cpu_ns,exits,outcome\n\
    measured (native),split,native,0,1000000,0,850,1020000,1000000,0,expired\n\
    measured (native),split,native,0,2000000,0,1700,2020000,2000000,0,expired\n\
    measured (native),aligned,native,0,1000000,0,390000,1020000,1000000,0,expired\n\
    measured (native),aligned,native,0,2000000,0,780000,2020000,2000000,0,expired\n";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_table_becomes_a_picture_of_the_form_that_its_name_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    put(&at("a.csv"), TABLE.as_bytes());
    for (name, beginning) in [
        ("a.svg", &b"<svg"[..]),
        ("a.png", b"\x89PNG"),
        ("a.html", b"<!DOCTYPE html>"),
    ] {
        succeed(&[
            "plot",
            text(&at("a.csv")),
            "--out",
            text(&at(name)),
            "--width",
            "400",
        ]);
        let bytes = std::fs::read(at(name)).unwrap();
        assert!(bytes.starts_with(beginning), "{name}: {:?}", &bytes[..40]);
    }
}

#[test]
fn several_tables_share_one_picture() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    put(&at("a.csv"), TABLE.as_bytes());
    put(&at("b.csv"), TABLE.replace("split", "xchg").as_bytes());
    succeed(&[
        "plot",
        text(&at("a.csv")),
        text(&at("b.csv")),
        "--out",
        text(&at("a.svg")),
    ]);
    let svg = std::fs::read_to_string(at("a.svg")).unwrap();
    for guest in ["split", "xchg", "aligned"] {
        assert!(svg.contains(guest), "{guest}");
    }
}

#[test]
fn damaged_files_are_named_by_line_and_leave_the_old_picture() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    put(&at("a.svg"), b"precious");
    let plot = |input: &Path| fail(&["plot", text(input), "--out", text(&at("a.svg"))]);

    put(&at("damaged.csv"), TABLE.replace("1700", "many").as_bytes());
    let sentence = plot(&at("damaged.csv"));
    assert!(
        sentence.contains("damaged.csv: line 3: column turns"),
        "{sentence}"
    );
    put(&at("other.csv"), b"a,b\n1,2\n");
    assert!(plot(&at("other.csv")).contains("header"));
    put(&at("other.json"), b"{}");
    assert!(plot(&at("other.json")).contains("not a sweep"));
    let header = TABLE.lines().next().unwrap();
    put(&at("empty.csv"), format!("{header}\n").as_bytes());
    assert!(plot(&at("empty.csv")).contains("nothing to draw"));
    assert!(plot(&at("missing.csv")).contains("No such file"));

    assert_eq!(std::fs::read(at("a.svg")).unwrap(), b"precious");
    assert!(
        names_in(folder.path())
            .iter()
            .all(|name| !name.starts_with('.'))
    );
}

#[test]
fn a_dash_is_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    put(&at("a.csv"), format!("\u{feff}{TABLE}").as_bytes());
    for name in ["a.svg", "a.html"] {
        let mut command = splitlock(&["plot", "-", "--out", text(&at(name))]);
        command.stdin(File::open(at("a.csv")).unwrap());
        assert!(command.status().unwrap().success());
        assert!(at(name).is_file());
    }
    let output = splitlock(&["plot", "-", "--out", text(&at("b.svg"))]).output();
    let sentence = complaint(&output.unwrap());
    assert!(sentence.contains("standard input: line 1"), "{sentence}");
}

#[test]
fn input_without_an_end_is_given_up() {
    let sentence = fail(&["plot", "/dev/zero", "--out", "/dev/null.svg"]);
    assert!(sentence.contains("a line is longer"), "{sentence}");
}

#[test]
fn a_signal_while_it_waits_for_input_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fifo(&at("pipe"));
    let mut child = splitlock(&["plot", text(&at("pipe")), "--out", text(&at("a.svg"))])
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, Signal::TERM);
    assert!(!child.wait().unwrap().success());
    assert_eq!(names_in(folder.path()), ["pipe"]);
}
