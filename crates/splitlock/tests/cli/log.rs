//! `splitlock log`

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::process::Signal;

use super::{complaint, fail, put, signal, splitlock, succeed};

fn corpus(name: &str) -> PathBuf {
    let corpus = "../split-lock-log/tests/corpus";
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(corpus)
        .join(name)
}

/// With this log as standard input.
fn log(bytes: &[u8], more: &[&str]) -> Output {
    super::run_with_input(&[&["log", "-"], more].concat(), bytes)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Without the line breaks that depend on the terminal's width.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_table_reads_well() {
    let found = succeed(&["log", corpus("osu-winello-222.log").to_str().unwrap()]);
    let lines: Vec<&str> = found.lines().collect();
    let words = |line: usize| lines[line].split_whitespace().collect::<Vec<_>>();
    assert_eq!(words(0), ["time", "event", "thread", "address", "name"]);
    assert_eq!(
        words(1),
        [
            "688.792264",
            "split",
            "lock",
            "11382",
            "0x7aa6806d",
            "osu!.exe"
        ]
    );
    assert!(
        found.contains("10 traps, 1 more that the kernel did not print"),
        "{found}"
    );
    assert!(found.contains("begins later"), "{found}");
}

#[test]
fn all_of_the_corpus_is_read() {
    let mut files: Vec<String> = fs::read_dir(corpus(""))
        .unwrap()
        .map(|entry| entry.unwrap().path().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    let arguments: Vec<&str> = ["log"]
        .into_iter()
        .chain(files.iter().map(String::as_str))
        .collect();
    let found = unwrapped(&succeed(&arguments));
    assert!(found.contains("64 traps"), "{found}");
    assert!(found.contains("3 damaged messages"), "{found}");
    assert!(found.contains("exasol-kb.log:1)"), "{found}");
}

#[test]
fn json_has_one_object_to_a_line() {
    let path = corpus("jfcarter-nuc11.log");
    let found = succeed(&["log", path.to_str().unwrap(), "--format", "json"]);
    let value: serde_json::Value = serde_json::from_str(found.trim_end()).unwrap();
    let expected = serde_json::json!({
        "file": path, "line": 1, "lines": 1, "offset": 0, "event": "split_lock",
        "time": "Apr 13 12:28:25", "clock": "syslog", "uptime_s": null, "host": "diamond",
        "caller": "T175479", "exception": "#AC", "comm": "CPU 1/KVM", "comm_hex": null,
        "tid": 175_479, "address": "0x7efb5050", "suppressed": null, "detail": null,
        "place": null, "code": null, "registers": null, "schema": "splitlock-log", "schema_version": 1,
    });
    assert_eq!(value, expected);
}

#[test]
fn a_refused_write_is_an_event() {
    let path = corpus("tdx-guest-livelock.log");
    let path = path.to_str().unwrap();
    let table = unwrapped(&succeed(&["log", path]));
    assert!(table.contains("refused write"), "{table}");
    assert!(
        table.contains("1 refused attempt of the kernel to switch detection on or off"),
        "{table}"
    );
    let json = succeed(&["log", path, "--format", "json"]);
    let event: serde_json::Value = serde_json::from_str(json.lines().nth(1).unwrap()).unwrap();
    assert_eq!(event["event"], "refused_write");
    let csv = succeed(&["log", path, "--format", "csv"]);
    assert!(
        csv.lines().nth(2).unwrap().contains(",refused_write,"),
        "{csv}"
    );
}

#[test]
fn csv_has_a_heading_and_the_same_fields() {
    let path = corpus("steam-11950.log");
    let found = succeed(&["log", path.to_str().unwrap(), "--format", "csv"]);
    let mut reader = csv::Reader::from_reader(found.as_bytes());
    let heading = reader.headers().unwrap().clone();
    let at = |row: &csv::StringRecord, name| {
        let column = heading.iter().position(|field| field == name).unwrap();
        row[column].to_owned()
    };
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 9);
    assert_eq!(
        (at(&rows[2], "suppressed"), at(&rows[2], "exception")),
        ("102".into(), "#DB".into())
    );
    assert_eq!(
        (at(&rows[8], "address"), at(&rows[8], "line")),
        ("0xf253c5a4".into(), "9".into())
    );
    assert_eq!(at(&rows[8], "uptime_s"), "39122.343693");
    // What is in the CSV's columns is what is in JSON's fields, in this order.
    let json = succeed(&["log", path.to_str().unwrap(), "--format", "json"]);
    let first = json.lines().next().unwrap();
    let places: Vec<_> = heading
        .iter()
        .map(|name| first.find(&format!("\"{name}\":")))
        .collect();
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{heading:?}: {first}"
    );
}

#[test]
fn names_cannot_steer_the_terminal_and_are_not_lost() {
    let hostile = b"\x1b[31m\x07\xc2\x9b2J\x7f\r\xff";
    let log_of = |name: &[u8]| {
        let before = &b"[    1.500000] x86/split lock detection: #AC: "[..];
        [
            before,
            name,
            b"/7 took a split_lock trap at address: 0x10\n",
        ]
        .concat()
    };
    for format in ["table", "json", "csv"] {
        let output = log(&log_of(hostile), &["--format", format]);
        assert_eq!(output.status.code(), Some(0));
        let harmful = |c: char| c.is_control() && c != '\n';
        assert!(
            !text(&output.stdout).contains(harmful),
            "{format}: {output:?}"
        );
        assert!(
            !text(&output.stderr).contains(harmful),
            "{format}: {output:?}"
        );
        assert!(
            text(&output.stdout).contains("[31m"),
            "{format}: {output:?}"
        );
    }
    let output = log(&log_of(hostile), &["--format", "json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["comm_hex"], "1b5b33316d07c29b324a7f0dff");
    let damaged = [&log_of(hostile)[..60], b"\n"].concat();
    let output = log(&damaged, &[]);
    assert!(!text(&output.stdout).contains('\u{1b}'), "{output:?}");
}

#[test]
fn a_log_without_any_of_it_says_so() {
    let output = log(b"[    0.000000] Linux version 6.6.1 (me@here)\n", &[]);
    let found = text(&output.stdout);
    assert!(found.contains("Linux 6.6.1"), "{found}");
    assert!(
        found.contains("0 traps, 0 messages about detection at boot."),
        "{found}"
    );
    assert!(found.contains("begins at boot."), "{found}");
}

#[test]
fn for_programs_the_counts_are_beside_the_data() {
    let output = log(b"", &["--format", "json"]);
    assert_eq!(text(&output.stdout), "");
    assert!(
        text(&output.stderr).starts_with("splitlock: 0 traps"),
        "{output:?}"
    );
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("kern.log.2.gz");
    put(&cut, &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x55]);
    for (path, expected) in [
        ("/nonexistent", "No such file"),
        ("/", "Is a directory"),
        (cut.to_str().unwrap(), "kern.log.2.gz"),
    ] {
        let sentence = fail_after_heading(path);
        assert!(
            sentence.contains(expected) && sentence.contains(path),
            "{sentence}"
        );
    }
    assert!(fail(&["log", "-", "-"]).contains("once"));
}

fn fail_after_heading(path: &str) -> String {
    complaint(&splitlock(&["log", path]).output().unwrap())
}

fn gzip(log: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::none());
    encoder.write_all(log).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_damaged_log_in_an_archive_is_named_and_the_others_are_read() {
    let trap = b"x86/split lock detection: #AC: a/1 took a split_lock trap at address: 0x10\n";
    let long = gzip(&trap.repeat(100));
    let short = gzip(trap);
    let mut archive = tar::Builder::new(vec![]);
    for (name, content) in [
        ("kern.log.3.gz", &long[..long.len() - 20]),
        ("kern.log.2.gz", &short[..short.len() - 20]),
        ("kern.log", trap),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content).unwrap();
    }
    let output = log(&archive.into_inner().unwrap(), &["--format", "json"]);
    assert_eq!(output.status.code(), Some(2));
    let rows = text(&output.stdout);
    assert!(rows.contains("standard input:kern.log\""), "{rows}");
    let errors = text(&output.stderr);
    for name in ["kern.log.3.gz", "kern.log.2.gz"] {
        let sentence = format!("splitlock: cannot read standard input:{name} to its end: ");
        assert!(errors.contains(&sentence), "{errors}");
    }
    assert!(errors.contains("2 logs that could not be read"), "{errors}");
}

#[test]
fn an_archive_that_is_cut_off_is_one_damage() {
    let trap = b"x86/split lock detection: #AC: a/1 took a split_lock trap at address: 0x10\n";
    let compressed = gzip(&trap.repeat(100));
    let mut header = tar::Header::new_ustar();
    header.set_size(compressed.len() as u64);
    let mut archive = tar::Builder::new(vec![]);
    archive
        .append_data(&mut header, "kern.log.gz", &compressed[..])
        .unwrap();
    let whole = archive.into_inner().unwrap();
    let output = log(&whole[..4000], &["--format", "json"]);
    assert_eq!(output.status.code(), Some(2));
    let errors = text(&output.stderr);
    for sentence in [
        "cannot read standard input:kern.log.gz to its end: ",
        "cannot read standard input: ",
        "1 log that could not be read",
    ] {
        assert!(errors.contains(sentence), "{errors}");
    }
}

/// A live log: the reader leaves, the writer goes on.
#[test]
fn a_closed_pipe_ends_it_quietly() {
    let mut command = splitlock(&["log", "-", "--format", "json"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let line = b"x86/split lock detection: #AC: a/1 took a split_lock trap at address: 0x10\n";
    input.write_all(line).unwrap();
    // Printed although the log has not ended.
    let mut first = String::new();
    output.read_line(&mut first).unwrap();
    assert!(first.contains("\"tid\":1"), "{first}");
    drop(output);
    while input.write_all(line).is_ok() {}
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

#[test]
fn ctrl_c_ends_it() {
    let mut command = splitlock(&["log", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _input_without_end = child.stdin.take();
    // It listens before it prints.
    let mut heading = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut heading)
        .unwrap();
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

/// The code words in the first column of a table of docs/log.md, by its heading.
fn documented(heading: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/log.md");
    let page = fs::read_to_string(path).unwrap();
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with(heading))
        .skip(2);
    let words = rows
        .take_while(|line| line.starts_with("| `"))
        .map(|line| line.split('`').nth(1));
    words.map(|word| word.unwrap().to_owned()).collect()
}

#[test]
fn the_fields_and_events_are_documented() {
    let formats = corpus("zz-kernel-formats.log");
    let livelock = corpus("tdx-guest-livelock.log");
    let logs = [formats.to_str().unwrap(), livelock.to_str().unwrap()];
    let csv = succeed(&["log", logs[0], logs[1], "--format", "csv"]);
    let fields: Vec<_> = csv.lines().next().unwrap().split(',').collect();
    assert_eq!(fields, documented("| field |"));
    let events = documented("| event |");
    for event in csv
        .lines()
        .skip(1)
        .map(|line| line.split(',').nth(4).unwrap())
    {
        assert!(events.iter().any(|known| known == event), "{event}");
    }
    let object = succeed(&["log", logs[0], "--format", "json"]);
    let object: serde_json::Value = serde_json::from_str(object.lines().next().unwrap()).unwrap();
    assert!(
        fields.iter().all(|field| object.get(field).is_some()),
        "{object}"
    );
}

#[test]
fn a_device_without_an_end_is_no_log() {
    for arguments in [
        &["log", "/dev/zero"][..],
        &["doctor", "--log", "/dev/urandom"],
        &["doctor", "--from", "/dev/zero"],
    ] {
        let error = fail(arguments);
        assert!(error.contains("a device without an end"), "{error}");
    }
}
