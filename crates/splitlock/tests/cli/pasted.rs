//! What people paste: each file of `fixtures/pasted` says what `index.tsv` has for it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use super::{cases, fail, run, run_with_input, splitlock};

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

/// What `log` says, one row for each event.
fn rows(output: &Output) -> Vec<String> {
    if output.status.code() == Some(2) {
        return vec!["exit code 2".to_owned()];
    }
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines()
        .map(|line| row(&serde_json::from_str(line).unwrap()))
        .collect()
}

/// What is wrong with what was found, or nothing.
fn difference(name: &str, found: &[String], expected: &[String]) -> String {
    let tab = |rows: &[String]| {
        rows.iter()
            .map(|row| format!("{name}\t{row}\n"))
            .collect::<String>()
    };
    match found == expected {
        true => String::new(),
        false => format!("found\n{}instead of\n{}", tab(found), tab(expected)),
    }
}

#[test]
fn every_pasted_log_says_what_the_index_has() {
    let wrong: String = index()
        .into_iter()
        .map(|(file, expected)| {
            let path = folder().join(&file);
            let output = run(&["log", path.to_str().unwrap(), "--json"]);
            difference(&file, &rows(&output), &expected)
        })
        .collect();
    assert_eq!(wrong, "");
}

#[test]
fn every_logger_is_read_as_what_it_is() {
    let text = fs::read_to_string(folder().join("loggers.txt")).unwrap();
    let wrong: String = cases(&text)
        .into_iter()
        .map(|(name, log, expected)| {
            let output = run_with_input(&["log", "-", "--json"], log.as_bytes());
            difference(name, &rows(&output), &expected)
        })
        .collect();
    assert_eq!(wrong, "");
}

/// What tools print of an instruction: its text, its address and whether it splits; or which part of a sentence says why it is
/// not read.
#[test]
fn every_tools_form_of_an_instruction_is_read() {
    let text = fs::read_to_string(folder().join("forms.txt")).unwrap();
    let mut wrong = String::new();
    let cases = cases(&text);
    assert!(cases.len() >= 30, "{}", cases.len());
    for (name, form, expected) in cases {
        let output = run_with_input(&["explain", "-", "--json"], form.as_bytes());
        if output.status.code() == Some(2) {
            let error = String::from_utf8(output.stderr).unwrap();
            let is_expected = expected[0]
                .strip_prefix("refused|")
                .is_some_and(|part| error.contains(part));
            if !is_expected {
                wrong += &format!("{name}: {error}");
            }
            continue;
        }
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let address = answer["address"].as_str().unwrap_or("-");
        let text = answer["instruction"]["text"].as_str().unwrap_or("-");
        let split = answer["split"].as_str().unwrap();
        let found = [format!("{text}|{address}|{split}")];
        wrong += &difference(name, &found, &expected);
    }
    assert_eq!(wrong, "");
}

/// Several cases to a file.
const CASES: [&str; 2] = ["loggers.txt", "forms.txt"];

/// A format that is not read is refused by its name, with what makes a text of it.
#[test]
fn what_is_not_read_is_refused_by_name() {
    for (file, name, instead) in [
        ("x.log.lz4", "lz4", "lz4 -dc"),
        ("x.7z", "7-Zip", "unpack it first"),
        ("x.rar", "RAR", "unpack it first"),
        ("system.journal", "binary journal", "journalctl --file"),
    ] {
        let path = folder().join(file);
        for command in ["log", "doctor"] {
            let mut arguments = vec![command];
            arguments.extend((command == "doctor").then_some("--log"));
            arguments.push(path.to_str().unwrap());
            let error = fail(&arguments);
            assert!(
                error.contains(name) && error.contains(instead),
                "{command}: {error}"
            );
        }
    }
}

/// A split lock of the kernel itself, from a kernel on the CPU that detects them: what the page and the explanation say.
#[test]
fn a_real_oops_is_right_in_every_field() {
    let path = folder().join("lab-kernel-mode-6.12.dmesg");
    let path = path.to_str().unwrap();
    let output = run(&["doctor", "--from", path, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let page: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(page["verdict"]["condition"]["is"], "kernel_split_lock");
    assert_eq!(page["verdict"]["basis"], "traps");
    let oops = &page["history"]["seen"]["is"]["kernel_split_locks"][0];
    assert_eq!(oops["place"], "skb_clone+0x150/0x1d0");
    assert_eq!(oops["module"], Value::Null);
    assert_eq!(oops["comm"], "busybox");
    let because = page["verdict"]["because"].to_string();
    assert!(
        because.contains("netbirdio/netbird/issues/7331"),
        "{because}"
    );
    let facts = &page["facts"];
    assert_eq!(facts["hz"]["seen"]["is"], 1000);
    assert_eq!(facts["cpu_model_number"]["seen"]["is"], 0x8c);

    let oops = fs::read_to_string(path).unwrap();
    let text = run_with_input(&["explain", "-", "--json"], oops.as_bytes());
    assert_eq!(text.status.code(), Some(0));
    let answer: Value = serde_json::from_slice(&text.stdout).unwrap();
    assert_eq!(answer["split"], "yes");
    assert_eq!(answer["instruction"]["bytes"], "f0ff4020");
    assert_eq!(
        answer["instruction"]["text"],
        "lock inc dword ptr [rax+20h]"
    );
    assert_eq!(answer["operand"]["first"], "0xffff88800279a4be");
    assert_eq!(answer["operand"]["last"], "0xffff88800279a4c1");
    assert_eq!(answer["operand"]["line"]["crosses"], "always");
    assert_eq!(answer["operand"]["page"]["crosses"], "never");
    assert_eq!(answer["address"], Value::Null);
    let notes = answer["notes"].to_string();
    assert!(notes.contains("kernel"), "{notes}");
}

#[test]
fn every_pasted_file_is_in_the_index() {
    let names = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names
        .filter(|name| {
            *name != "index.tsv" && *name != "README.md" && !CASES.contains(&name.as_str())
        })
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
