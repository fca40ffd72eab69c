//! What people paste: each file of `fixtures/pasted` says what `index.tsv` has for it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{run, splitlock};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/pasted")
}

/// An event in a row: what is not there is `-`.
fn row(event: &Value) -> String {
    let field = |name: &str| match &event[name] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut row = [
        "event",
        "exception",
        "comm",
        "tid",
        "address",
        "time",
        "uptime_s",
        "host",
    ]
    .map(field)
    .join("|");
    for name in ["place", "code"] {
        if event[name] != Value::Null {
            row += &format!("|{}", field(name));
        }
    }
    row
}

/// Every file of the folder, and what is right for it: events, or an exit code of 2.
fn index() -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(folder().join("index.tsv")).unwrap();
    let mut index = BTreeMap::<String, Vec<String>>::new();
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let (file, expected) = line.split_once('\t').unwrap();
        let rows = index.entry(file.to_owned()).or_default();
        if expected != "no event" {
            rows.push(expected.to_owned());
        }
    }
    index
}

#[test]
fn every_pasted_log_says_what_the_index_has() {
    let mut wrong = String::new();
    for (file, expected) in index() {
        let path = folder().join(&file);
        let output = run(&["log", path.to_str().unwrap(), "--json"]);
        let found: Vec<String> = if output.status.code() == Some(2) {
            vec!["exit code 2".to_owned()]
        } else {
            let text = String::from_utf8(output.stdout).unwrap();
            text.lines()
                .map(|line| row(&serde_json::from_str(line).unwrap()))
                .collect()
        };
        if found != expected {
            let tab = |rows: &[String]| {
                rows.iter()
                    .map(|row| format!("{file}\t{row}\n"))
                    .collect::<String>()
            };
            wrong += &format!("found\n{}instead of\n{}", tab(&found), tab(&expected));
        }
    }
    assert_eq!(wrong, "");
}

#[test]
fn every_pasted_file_is_in_the_index() {
    let names = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names
        .filter(|name| name != "index.tsv" && name != "README.md")
        .collect();
    names.sort();
    let index: Vec<String> = index().into_keys().collect();
    assert_eq!(names, index);
}

/// What cannot be said of a log is not said: nobody hears that there was no trap if there was something.
#[test]
fn the_doctor_does_not_take_what_it_could_not_read_for_nothing() {
    for file in index().into_keys() {
        let path = folder().join(&file);
        let output = splitlock(&["doctor", "--log", path.to_str().unwrap(), "--json"])
            .output()
            .unwrap();
        let code = output.status.code().unwrap();
        assert!((0..=3).contains(&code), "{file}: {code}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            !text.contains("tells of no trap since the kernel started"),
            "{file}: {text}"
        );
    }
}
