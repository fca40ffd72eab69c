//! The command as its users meet it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use split_lock_repro::results::Sweep;
use split_lock_repro::vm::{KVM_DEVICE, open_kvm};

mod architecture;
mod bad_luck;
mod consistency;
mod demo;
mod docs;
mod doctor;
mod doctor_docs;
mod doctor_from;
mod explain;
mod find;
#[path = "../../../split-lock-symbols/tests/fixture/mod.rs"]
mod fixture;
mod generate;
mod log;
mod model;
mod pasted;
mod plot;
mod reproduce;
mod run;
mod sweep;
mod usage;
mod watch;

fn splitlock(arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("splitlock"));
    command.args(arguments);
    command
}

/// A program that says when it has begun, from then on; what it says of errors can be read.
fn begun(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "begins\n");
    child
}

fn run(arguments: &[&str]) -> Output {
    splitlock(arguments).output().unwrap()
}

/// Runs it with this on its standard input.
fn run_with_input(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = splitlock(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// The cases of a file in which each begins with `%% name`, and has rows `%= ` of what is right for it: name, input, rows.
fn cases(text: &str) -> Vec<(&str, String, Vec<String>)> {
    text.split("\n%% ")
        .skip(1)
        .map(|case| {
            let (name, lines) = case.split_once('\n').unwrap();
            let (rows, input): (Vec<&str>, Vec<&str>) =
                lines.lines().partition(|line| line.starts_with("%= "));
            let rows = rows.iter().map(|row| row[3..].to_owned()).collect();
            (name, format!("{}\n", input.join("\n")), rows)
        })
        .collect()
}

/// Runs it, and expects it to end well.
fn succeed(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a failed command says: one sentence on stderr, and exit code 2.
fn complaint(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.starts_with("splitlock: "), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    let parts: Vec<_> = text.trim_end().split(": ").collect();
    let repeats = |(i, part)| parts[..i].contains(part);
    assert!(!parts.iter().enumerate().any(repeats), "{text}");
    assert!(!text.contains(".splitlock-"), "names a draft: {text}");
    text
}

fn fail(arguments: &[&str]) -> String {
    complaint(&run(arguments))
}

/// Whether tests that need KVM can run; says why if not, and fails where they must.
fn has_kvm() -> bool {
    match open_kvm(Path::new(KVM_DEVICE)) {
        Ok(_) => true,
        Err(error) => {
            let required = std::env::var_os("SPLITLOCK_REQUIRE_KVM");
            assert!(
                required.is_none_or(|value| value != "1"),
                "KVM is required here: {error}"
            );
            eprintln!("skipped: {error}");
            false
        }
    }
}

/// Ends a test that needs KVM where there is none.
macro_rules! needs_kvm {
    () => {
        if !$crate::has_kvm() {
            return;
        }
    };
}
use needs_kvm;

/// Runs a script in a mount namespace of its own, with the program as `$0` and a temporary folder as
/// `$1`; `None`, and says so, where there is no such namespace (the script's code 77).
fn in_mount_namespace(script: &str) -> Option<Output> {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(assert_cmd::cargo::cargo_bin!("splitlock"))
        .arg(folder.path())
        .output();
    match output {
        Ok(output)
            if output.status.code() != Some(77) && !output.stderr.starts_with(b"unshare:") =>
        {
            Some(output)
        }
        other => {
            eprintln!("skipped: no mount namespace to be had: {other:?}");
            None
        }
    }
}

/// Runs a command as somebody who is not root; `None`, and says so, where that cannot be tried.
fn as_nobody(command: &mut Command) -> Option<Output> {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can try this as somebody else");
        return None;
    }
    let output = command.uid(NOBODY).gid(NOBODY).output().ok();
    if output.is_none() {
        eprintln!("skipped: nobody may not run the program where it is");
    }
    output
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn read_csv(path: &Path) -> Sweep {
    Sweep::read_csv(fs::read(path).unwrap().as_slice()).unwrap()
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[expect(clippy::disallowed_methods, reason = "a test's own file")]
fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}

fn fifo(path: &Path) {
    let status = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(status.success());
}
