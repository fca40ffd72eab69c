//! `splitlock doctor --from`: what was sent of a machine. The files and what is right for them are in `fixtures/sent`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{fail, run, splitlock};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/sent")
}

/// Runs it in the folder of the files.
fn from(files: &[&str], more: &[&str]) -> std::process::Output {
    let arguments = [&["doctor", "--from"], files, more].concat();
    splitlock(&arguments)
        .current_dir(folder())
        .output()
        .unwrap()
}

fn json(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Exit code, condition, its reason, the kernel, and where flags and log are from; what is not known is `-`.
fn row(files: &[&str]) -> String {
    let output = from(files, &["--json"]);
    let code = output.status.code().unwrap();
    if code == 2 {
        return "2".to_owned();
    }
    let page = json(&output);
    let condition = &page["verdict"]["condition"];
    let known = |fact: &Value, field: &str| match fact["seen"]["is"] {
        Value::Null => "-".to_owned(),
        _ if field == "from" => fact["from"].as_str().unwrap().to_owned(),
        ref value => value.as_str().unwrap().to_owned(),
    };
    let facts = &page["facts"];
    [
        code.to_string(),
        condition["is"].as_str().unwrap().to_owned(),
        condition["because"].as_str().unwrap_or("-").to_owned(),
        known(&facts["kernel_release"], "is"),
        known(&facts["cpu_flags"], "from"),
        known(&page["history"], "from"),
    ]
    .join("|")
}

fn rows() -> Vec<(Vec<String>, String)> {
    let index = fs::read_to_string(folder().join("index.tsv")).unwrap();
    let lines = index.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (files, expected) = line.split_once('\t').unwrap();
            let files = files.split(' ').map(str::to_owned).collect();
            (files, expected.to_owned())
        })
        .collect()
}

#[test]
fn what_was_sent_says_what_the_index_has() {
    let mut wrong = String::new();
    for (files, expected) in rows() {
        let files: Vec<_> = files.iter().map(String::as_str).collect();
        let found = row(&files);
        if found != expected {
            wrong += &format!("{}\t{found}\ninstead of\t{expected}\n", files.join(" "));
        }
    }
    assert_eq!(wrong, "");
}

#[test]
fn every_file_that_was_sent_is_in_the_index() {
    let indexed: Vec<String> = rows().into_iter().flat_map(|(files, _)| files).collect();
    for name in super::names_in(&folder()) {
        assert!(name == "index.tsv" || indexed.contains(&name), "{name}");
    }
}

/// Nothing is taken from the machine that this runs on, and what nobody said is not known.
#[test]
fn the_page_says_who_said_what_and_what_to_ask_for() {
    let output = from(&["lscpu-alder-lake.txt", "uname.txt"], &[]);
    let page = String::from_utf8(output.stdout).unwrap();
    let words = page.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "CPU: 12th Gen Intel(R) Core(TM) i7-12700K (lscpu-alder-lake.txt (lscpu))",
        "its flags: flag split_lock_detect, no flag bus_lock_detect, no flag hypervisor",
        "kernel: 6.12.24-Unraid (uname.txt (uname))",
        "command line: not known",
        "The command line could not be seen",
        "sudo sysctl kernel.split_lock_mitigate=0",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    let output = from(&["inxi-Fa.txt"], &[]);
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(page.contains("Ask for what is not known"), "{page}");
}

#[test]
fn a_log_in_an_archive_is_found_by_log_as_well() {
    let arguments = ["doctor", "--log", "sosreport.tar.xz", "--root", "../zen-2"];
    let output = splitlock(&arguments)
        .current_dir(folder())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let page = String::from_utf8(output.stdout).unwrap();
    let words = page.split_whitespace().collect::<String>();
    assert!(words.contains("journalctl_--no-pager_--boot"), "{page}");
    assert!(words.contains("2traps"), "{page}");
}

/// The kernel's own buffer gives whole records or an error.
#[test]
fn the_kernels_own_buffer_is_read_as_the_log_command_reads_it() {
    let log = run(&["log", "/dev/kmsg"]);
    if log.status.code() == Some(2) {
        return eprintln!("skipped: /dev/kmsg cannot be read here: {log:?}");
    }
    for option in ["--log", "--from"] {
        let output = run(&["doctor", option, "/dev/kmsg"]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!error.contains("os error"), "{option}: {error}");
    }
}

#[test]
fn what_tells_nothing_is_refused_with_what_does() {
    let notes = folder().join("notes.txt");
    let error = fail(&["doctor", "--from", notes.to_str().unwrap()]);
    assert!(
        error.contains("nothing in it is known here") && error.contains("lscpu"),
        "{error}"
    );
    for file in ["/missing", "/dev/null"] {
        let error = fail(&["doctor", "--from", file]);
        assert!(error.contains(&format!("cannot read {file}")), "{error}");
    }
    let capture = tempfile::tempdir().unwrap();
    let path = capture.path().join("host.tar");
    let zen = folder().join("../zen-2");
    let made = splitlock(&[
        "doctor",
        "--root",
        zen.to_str().unwrap(),
        "--capture",
        path.to_str().unwrap(),
    ])
    .output()
    .unwrap();
    assert_eq!(made.status.code(), Some(0));
    let error = fail(&["doctor", "--from", path.to_str().unwrap()]);
    assert!(error.contains("give it to --root"), "{error}");
    let error = fail(&["doctor", "--root", notes.to_str().unwrap()]);
    assert!(error.contains("--from"), "{error}");
}
