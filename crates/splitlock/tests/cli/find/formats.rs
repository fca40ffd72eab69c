//! Results for programs, and exit codes.

use std::fs;

use serde_json::Value;

use super::{line_of, needs_emulator, output, program, said, script, sites};

#[test]
fn a_run_that_fails_says_why_though_the_result_is_in_a_file() {
    needs_emulator!();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.sarif");
    let to_file = ["--format", "sarif", "--out", file.to_str().unwrap()];
    let said_with = |more: &[&str]| {
        said(&output(
            &[&to_file, more].concat(),
            &[&program("exec"), "0"],
        ))
    };
    assert_eq!(said_with(&[]), "");
    let page = said_with(&["--fail-on", "split"]);
    assert!(page.contains("instruction split locks"), "{page}");
    assert!(fs::read_to_string(&file).unwrap().contains("\"runs\""));
}

#[test]
fn the_result_is_alone_on_standard_output() {
    needs_emulator!();
    let output = output(&["--json"], &["sh", "-c", "echo hello"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&found["schema"], &found["schema_version"]),
        (&"splitlock-find".into(), &1.into())
    );
    assert_eq!(said(&output), "hello\n");
}

#[test]
fn a_result_in_a_file_leaves_the_program_its_output() {
    needs_emulator!();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.json");
    let output = output(
        &["--json", "--out", file.to_str().unwrap()],
        &[&program("sites"), "2", "1"],
    );
    assert_eq!(output.stdout, b"1 threads did 2 turns\n");
    let found: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert_eq!(sites(&found).len(), 12);
}

#[test]
fn sarif_names_the_line() {
    needs_emulator!();
    let output = output(&["--format", "sarif"], &[&program("exec"), "0"]);
    let sarif: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let [result] = &sarif["runs"][0]["results"].as_array().unwrap()[..] else {
        panic!("{sarif}")
    };
    assert_eq!(
        result["ruleId"],
        sarif["runs"][0]["tool"]["driver"]["rules"][0]["id"]
    );
    let place = &result["locations"][0]["physicalLocation"];
    let uri = place["artifactLocation"]["uri"].as_str().unwrap();
    assert!(
        uri.ends_with("split-lock-plugin/tests/programs/exec.c"),
        "{uri}"
    );
    assert_eq!(place["region"]["startLine"], line_of("exec.c", "lock incl"));
    assert!(
        result["message"]["text"]
            .as_str()
            .unwrap()
            .contains("split a lock 1 time"),
        "{result}"
    );
}

#[test]
fn split_locks_change_the_exit_code_only_if_that_is_asked_for() {
    needs_emulator!();
    let code = |options: &[&str], program: &[&str]| output(options, program).status.code();
    let splits = program("exec");
    assert_eq!(code(&[], &[&splits, "0"]), Some(0));
    assert_eq!(code(&["--fail-on", "split"], &[&splits, "0"]), Some(1));
    assert_eq!(
        code(&["--fail-on", "split,unwatched"], &["sh", "-c", "exit 6"]),
        Some(6)
    );
}

#[test]
fn what_is_suppressed_does_not_count() {
    needs_emulator!();
    let folder = tempfile::tempdir().unwrap();
    let known =
        "{\n  known\n  splitlock:split\n  fun:split\n  obj:*/exec\n}\n{\n  old\n  fun:gone\n}\n";
    let file = script(folder.path(), "known.supp", known);
    let options = ["--fail-on", "split", "--suppress", &file];
    let output = output(&options, &[&program("exec"), "0"]);
    assert_eq!(output.status.code(), Some(0));
    let page = said(&output);
    assert!(page.contains("no instruction split a lock"), "{page}");
    assert!(page.contains("1 instruction is suppressed"), "{page}");
    assert!(
        page.contains("the suppression `old` matched nothing"),
        "{page}"
    );
}

#[test]
fn the_fields_are_those_of_the_documentation() {
    needs_emulator!();
    let output = output(&["--json"], &[&program("exec"), "0"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/find.md");
    let docs = fs::read_to_string(docs).unwrap();
    let (_, table) = docs.split_once("## JSON").unwrap();
    let names = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    let site = &sites(&found)[0];
    let all = [
        names(&found),
        names(site),
        names(&site["instruction"]),
        names(&site["operand"]),
    ]
    .concat();
    for name in &all {
        assert!(
            table.contains(&format!("`{name}`")),
            "{name} is not described"
        );
    }
    let rows = table
        .lines()
        .filter_map(|row| row.strip_prefix("- ")?.split(": ").next());
    let named = rows.flat_map(|names| names.split(['`', ',', ' ']));
    for name in named.filter(|it| !it.is_empty()) {
        assert!(all.iter().any(|it| it == name), "there is no {name}");
    }
}
