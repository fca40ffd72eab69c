//! Programs that the program executes.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, chmod};

use super::super::as_nobody;
use super::{find, found, needs_emulator, number, output, program, said, script, sites, text};

#[test]
fn programs_that_are_executed_are_followed() {
    needs_emulator!();
    for how in ["path", "at"] {
        let (found, code) = found(&[&program("exec"), how, &program("exec"), "3"]);
        assert_eq!(
            (code, &found["programs"]),
            (Some(3), &2.into()),
            "{how}: {found}"
        );
        assert_eq!(number(&sites(&found)[0]["count"]), 2, "{how}");
        assert_eq!(found["complete"], true, "{how}");
    }
}

#[test]
fn a_program_in_memory_is_followed_too() {
    needs_emulator!();
    let (found, code) = found(&[&program("exec"), "memory", &program("exec"), "3"]);
    assert_eq!((code, &found["programs"]), (Some(3), &2.into()), "{found}");
    assert_eq!(
        sites(&found).len(),
        2,
        "its code is from another file: {found}"
    );
}

#[test]
fn a_program_that_executes_itself_is_not_taken_for_the_emulator() {
    needs_emulator!();
    let (found, code) = found(&[&program("exec"), "self"]);
    assert_eq!((code, &found["programs"]), (Some(0), &2.into()), "{found}");
    assert_eq!(number(&sites(&found)[0]["count"]), 2);
}

#[test]
fn programs_of_both_kinds_execute_one_another() {
    needs_emulator!();
    let (found, code) = found(&[&program("sites"), "10", "2", &program("exec"), "0"]);
    assert_eq!(code, Some(0));
    assert_eq!(sites(&found).len(), 13, "{found}");
    let (found, code) = super::found(&[&program("exec"), "path", &program("small32")]);
    assert_eq!(code, Some(7));
    assert_eq!(sites(&found).len(), 2, "{found}");
}

#[test]
fn a_shell_script_is_followed_with_its_pipes_and_its_code() {
    needs_emulator!();
    let folder = tempfile::tempdir().unwrap();
    let lines = format!(
        "#!/bin/sh -e\ncat | tr a-z A-Z\n{0} 0\nenv {0} 0\n(exec {0} 0)\n{0} 9\n",
        program("exec")
    );
    let path = script(folder.path(), "a script", &lines);
    let mut command = find(&[], &[&path]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    use std::io::Write;
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(9), "{}", said(&output));
    assert_eq!(output.stdout, b"HELLO\n");
    assert!(
        said(&output).contains("1 instruction split locks, 4 times"),
        "{}",
        said(&output)
    );
}

#[test]
fn what_a_loader_is_told_is_told_to_the_programs_own() {
    needs_emulator!();
    let mut command = find(&[], &["sh", "-c", "echo $LD_PRELOAD; exec env"]);
    let output = command
        .env("LD_PRELOAD", program("libsites.so"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.matches("libsites.so").count(), 2, "{text}");
}

#[test]
fn a_program_that_cannot_be_followed_is_reported() {
    needs_emulator!();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("private");
    fs::copy(program("exec"), &path).unwrap();
    // It is root's, with the set-user-ID bit.
    chmod(&path, Mode::from_raw_mode(0o4711)).unwrap();
    chmod(folder.path(), Mode::from_raw_mode(0o755)).unwrap();
    // Others may not be allowed to read the sources, or to build from them.
    assert!(output(&[], &["true"]).status.success());
    let built = Path::new(assert_cmd::cargo::cargo_bin!("splitlock"));
    let copy = folder.path().join("splitlock");
    fs::copy(built, &copy).unwrap();
    let library = "libsplit_lock_plugin.so";
    fs::copy(built.with_file_name(library), folder.path().join(library)).unwrap();
    let line = format!("{}; exit 4", path.display());
    let mut command = Command::new(copy);
    command.args([
        "find",
        "--json",
        "--fail-on",
        "unwatched",
        "--",
        "sh",
        "-c",
        &line,
    ]);
    let Some(output) = as_nobody(&mut command) else {
        return;
    };
    let found: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(output.status.code(), Some(3), "{found}");
    let [unwatched] = &found["not_watched"].as_array().unwrap()[..] else {
        panic!("{found}")
    };
    assert_eq!(text(&unwatched["program"]), path.to_str().unwrap());
    assert_eq!(
        (sites(&found).len(), &found["complete"]),
        (0, &false.into()),
        "it ran natively"
    );
}

#[test]
fn names_that_lead_nowhere_are_no_programs_that_were_missed() {
    needs_emulator!();
    let output = output(
        &["--json"],
        &[
            "sh",
            "-c",
            "/nowhere/a 2>&-; PATH=/x:/y:/bin:/usr/bin env true",
        ],
    );
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["complete"], true, "{found}");
    assert_eq!(found["programs"], 3);
}

#[test]
fn a_daemon_is_told_of_and_runs_on() {
    needs_emulator!();
    let output = output(&[], &[&program("exec"), "daemon", "/bin/true"]);
    assert_eq!(output.status.code(), Some(0));
    let page = said(&output);
    assert!(page.contains("1 instruction split locks, 1 time"), "{page}");
    assert!(
        page.contains("still running, and not told of from now on"),
        "{page}"
    );
}
