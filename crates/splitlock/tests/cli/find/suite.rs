//! A test suite that Cargo executes, without optimization: atomic operations are functions of the library.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use super::{SOURCES, find, line_of, needs_emulator, number, said, script, sites, text};

/// A crate of its own, whose tests are built.
fn suite(source: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let manifest = format!(
        "[package]\nname = \"suite\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
         [lib]\npath = {source:?}\ndoctest = false\n[workspace]\n"
    );
    script(folder.path(), "Cargo.toml", &manifest);
    let built = in_suite(Command::new("cargo"), folder.path())
        .args(["test", "--offline", "--no-run"])
        .output();
    let built = built.unwrap();
    assert!(built.status.success(), "{}", said(&built));
    folder
}

/// What a test of ours runs in is not for the suite.
fn in_suite(mut command: Command, folder: &Path) -> Command {
    command
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_INCREMENTAL");
    command
}

fn tested(options: &[&str], folder: &Path, is_to_fail: bool) -> Output {
    let mut command = in_suite(find(options, &["cargo", "test", "--offline"]), folder);
    if is_to_fail {
        command.env("SUITE_FAILS", "1");
    }
    command.output().unwrap()
}

#[test]
fn the_line_of_the_crate_is_named_and_the_code_is_the_suites() {
    needs_emulator!();
    let source = Path::new(SOURCES).join("suite.rs").canonicalize().unwrap();
    let source = source.to_str().unwrap();
    let folder = suite(source);
    let line = line_of("suite.rs", "fetch_add");

    let passed = tested(&["--fail-on", "split"], folder.path(), false);
    let page = said(&passed);
    assert_eq!(passed.status.code(), Some(1), "{page}");
    let called = format!("called by suite::tests::bump, {source}:{line}\n");
    assert!(page.contains(&called), "{page}");

    let failed = tested(&["--json"], folder.path(), true);
    let found: Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!(failed.status.code(), Some(101), "{found}");
    let [site] = sites(&found) else {
        panic!("{found}")
    };
    assert_eq!(number(&site["count"]), 1);
    assert!(
        text(&site["source"][0]["file"]).contains("/library/core/"),
        "{site}"
    );

    let sarif = tested(&["--format", "sarif"], folder.path(), false);
    assert_eq!(sarif.status.code(), Some(0));
    let sarif: Value = serde_json::from_slice(&sarif.stdout).unwrap();
    let place = &sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
    assert_eq!(place["region"]["startLine"], line, "{sarif}");
}
