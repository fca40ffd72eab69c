//! `splitlock run`. What the library does to a VMM is tested beside it; here stalls are feigned, and the command is looked at.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{begun, fail, signal, splitlock};

/// A VMM for whose guest something is done at once.
fn run(arguments: &[&str]) -> Command {
    let mut command = splitlock(&["run"]);
    command
        .args(arguments)
        .env("SPLITLOCK_RUN_FEIGN_STALLS", "1");
    command
}

fn compiled(name: &str, source: &str, options: &[&str]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let mut compiler = Command::new("cc");
    compiler
        .arg(source)
        .args(options)
        .arg("-lrt")
        .arg("-o")
        .arg(&path);
    assert!(compiler.status().unwrap().success());
    (folder, path)
}

/// The library's test program.
fn vmm() -> &'static str {
    static VMM: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let source = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../split-lock-preload/tests/vmm/vmm.c"
    );
    let (_, path) = VMM.get_or_init(|| compiled("vmm", source, &["-O1", "-pthread"]));
    path.to_str().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A guest that never ends, once it has begun.
fn forever(options: &[&str]) -> (Child, BufReader<impl Read + use<>>) {
    let mut command = run(options);
    command.args(["--", vmm(), "forever"]);
    let mut child = begun(command);
    let stderr = BufReader::new(child.stderr.take().unwrap());
    (child, stderr)
}

#[test]
fn what_was_done_is_told_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let stats = folder.path().join("stats.json");
    let output = run(&[
        "--stats",
        stats.to_str().unwrap(),
        "--",
        vmm(),
        "count",
        "20000",
    ])
    .output()
    .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.starts_with("20000 turns"), "{printed}");
    assert!(
        said(&output).contains("lock inc dword ptr [bx]"),
        "{}",
        said(&output)
    );
    let stats: Value = serde_json::from_slice(&fs::read(stats).unwrap()).unwrap();
    let vcpu = &stats["processes"][0]["vcpus"][0];
    assert!(
        vcpu["emulated_before_they_trapped"].as_u64() > Some(0),
        "{stats}"
    );
}

#[test]
fn the_programs_exit_code_is_the_commands() {
    for (script, code) in [("exit 7", 7), ("kill -9 $$", 137), ("true", 0)] {
        let output = run(&["--quiet", "--", "sh", "-c", script])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{script}");
        assert_eq!(said(&output), "", "{script}");
    }
}

#[test]
fn signals_go_to_the_program_and_sigusr1_asks_for_a_report() {
    let (mut child, mut stderr) = forever(&["--json"]);
    std::thread::sleep(Duration::from_millis(1500));
    signal(&child, Signal::USR1);
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    let report: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(report["processes"].as_array().unwrap().len(), 1, "{report}");
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a source that a compiler reads")]
fn what_cannot_be_covered_is_not_started() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("main.c");
    fs::write(
        &source,
        "#include <stdio.h>\nint main(void) { puts(\"started\"); }\n",
    )
    .unwrap();
    let (_folder, program) = compiled("program", source.to_str().unwrap(), &["-static"]);
    let program = program.to_str().unwrap();
    for (arguments, reason) in [
        (["run", "--", program], "statically linked"),
        (
            ["run", "--", "/etc/passwd"],
            "neither an ELF file nor a script",
        ),
        (
            ["run", "--", "/missing/program"],
            "cannot read /missing/program",
        ),
        (
            ["run", "--", "no-such-program"],
            "no program no-such-program",
        ),
        (["run", "--", "/tmp"], "not a file"),
    ] {
        assert!(fail(&arguments).contains(reason), "{arguments:?}");
    }
}

#[test]
fn no_folder_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let status = run(&["--quiet", "--", "true"])
        .env("TMPDIR", folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_report_only_is_a_report_only() {
    let output = run(&["--guard", "report", "--json", "--", vmm(), "count", "20000"])
        .output()
        .unwrap();
    let report: Value = serde_json::from_str(&said(&output)).unwrap();
    let vcpu = &report["processes"][0]["vcpus"][0];
    for field in [
        "kicks",
        "emulated_at_stalls",
        "emulated_before_they_trapped",
    ] {
        assert_eq!(vcpu[field].as_u64(), Some(0), "{report}");
    }
}
