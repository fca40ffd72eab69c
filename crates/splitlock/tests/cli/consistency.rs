//! What is the same in all commands.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{run, succeed};

/// As `splitlock help` names them, those of `demo` included.
fn commands() -> Vec<Vec<String>> {
    let help = succeed(&["--help"]);
    let list = help.split_once("Commands:").unwrap().1;
    let list = list.split_once("\n\n").unwrap().0;
    let names = list
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let mut commands: Vec<_> = names
        .filter(|name| *name != "help")
        .map(|name| vec![name.to_owned()])
        .collect();
    assert!(commands.len() > 10, "{list}");
    commands.push(vec!["demo".into(), "linux".into()]);
    commands.push(vec!["generate".into()]);
    commands
}

fn help_of(command: &[String]) -> String {
    let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
    arguments.push("--help");
    succeed(&arguments)
}

/// Each option with what stands for its value.
fn options(help: &str) -> Vec<(String, String)> {
    let lines = help.lines().map(str::trim_start);
    let lines = lines.filter_map(|line| line.strip_prefix("-h, ").or(Some(line)));
    lines
        .filter(|line| line.starts_with("--"))
        .map(|line| {
            let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
            // One without a value may have its description in the same line.
            let has_value = rest.starts_with('<');
            let value = rest.split_inclusive('>').next().filter(|_| has_value);
            (name.to_owned(), value.unwrap_or_default().to_owned())
        })
        .collect()
}

#[test]
fn every_help_has_an_example_and_the_exit_codes() {
    for command in commands() {
        let help = help_of(&command);
        let example = format!("splitlock {} ", command.join(" "));
        let examples = help
            .split_once("\nExample")
            .unwrap_or_else(|| panic!("{help}"))
            .1;
        assert!(examples.contains(example.trim_end()), "{help}");
        assert!(examples.contains("\nExit codes: "), "{help}");
    }
}

/// Whoever knows an option of one command knows it of all.
#[test]
fn an_option_has_the_same_value_everywhere() {
    /// What scripts know by now: a report is a folder, a demo boots an image, a sweep has its results in files.
    const TWO_MEANINGS: [(&str, &str); 6] = [
        ("reproduce", "--out"),
        ("demo linux", "--kernel"),
        ("sweep", "--json"),
        ("sweep", "--guest"),
        ("simulate", "--guest"),
        ("run", "--guard"),
    ];
    let mut values = BTreeMap::<String, (String, String)>::new();
    for command in commands() {
        let name = command.join(" ");
        for (option, value) in options(&help_of(&command)) {
            if TWO_MEANINGS.contains(&(&name, &option)) {
                continue;
            }
            let (first, expected) = values
                .entry(option.clone())
                .or_insert_with(|| (name.clone(), value.clone()));
            assert_eq!(value, *expected, "{option} of {name} and of {first}");
        }
    }
    assert!(
        values.contains_key("--json") && values.contains_key("--kernel"),
        "{values:?}"
    );
}

/// What stands for a value says what it is.
#[test]
fn placeholders_are_of_few_kinds() {
    const KINDS: [&str; 19] = [
        "ADDRESS", "CPU", "DEVICE", "DIR", "DURATION", "FILE", "FORMAT", "KERNEL", "KIB", "KIND",
        "N", "NAME", "PID", "PIXELS", "PROBLEM", "RANGE", "REGISTER", "SIZE", "WORDS",
    ];
    for command in commands() {
        for (option, value) in options(&help_of(&command)) {
            let Some(kind) = value.strip_prefix('<').and_then(|it| it.strip_suffix('>')) else {
                continue;
            };
            let is_choice = kind.contains('|')
                || kind.contains('=')
                || kind.contains('[')
                || kind.contains('.');
            assert!(
                is_choice || KINDS.contains(&kind),
                "{command:?} {option} {value}"
            );
        }
    }
}

#[test]
fn json_names_its_schema_and_comes_alone() {
    let machine = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/tiger-lake-6.6");
    let log = format!("{machine}/var/log/dmesg");
    for arguments in [
        &["doctor", "--json", "--root", machine][..],
        &["log", "--json", &log],
        &["explain", "--json", "f0 0f c1 01"],
        &["simulate", "--json", "--kernel", "6.12,hz=250"],
        &["thresholds", "--json"],
    ] {
        let output = run(arguments);
        // One document, or one to a line.
        let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(&output.stdout)
            .into_iter()
            .collect();
        let values = values.unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
        assert!(!values.is_empty(), "{arguments:?}");
        for value in values {
            let schema = value["schema"].as_str().unwrap_or_default();
            assert!(schema.starts_with("splitlock-"), "{arguments:?}: {schema}");
            assert!(value["schema_version"].is_u64(), "{arguments:?}");
        }
    }
}

/// A mistake is said once, in one sentence, with the way to more.
#[test]
fn an_unknown_option_is_a_usage_error_everywhere() {
    for command in commands() {
        let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        arguments.push("--no-such-option");
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        assert!(output.stdout.is_empty(), "{command:?}");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(complaint.contains("--no-such-option"), "{complaint}");
        assert_eq!(complaint.trim_end().lines().count(), 1, "{complaint}");
    }
}
