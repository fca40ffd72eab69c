//! Programs that the program executes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::fs::{Mode, chmod};

use super::super::{as_nobody, complaint};
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
    // It may not be read either.
    let path = of_root(folder.path(), 0o4711);
    let line = format!("{}; exit 4", path.display());
    let options = ["--json", "--fail-on", "unwatched"];
    let Some(output) = found_by_nobody(folder.path(), &options, &["sh", "-c", &line]) else {
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
fn a_program_with_the_set_user_id_bit_is_not_started_with_less_rights() {
    needs_emulator!();
    let folder = tempfile::tempdir().unwrap();
    let path = of_root(folder.path(), 0o4755);
    let Some(output) = found_by_nobody(folder.path(), &[], &[path.to_str().unwrap()]) else {
        return;
    };
    let complaint = complaint(&output);
    assert!(
        complaint.contains("has the set-user-ID bit, which an emulator cannot give it")
            && complaint.contains("start splitlock itself as that user"),
        "{complaint}"
    );
}

/// A program of root's with these bits.
fn of_root(folder: &Path, mode: u32) -> PathBuf {
    let path = folder.join("program");
    fs::copy(program("exec"), &path).unwrap();
    chmod(&path, Mode::from_raw_mode(mode)).unwrap();
    path
}

/// `None` where this test cannot become another user.
fn found_by_nobody(folder: &Path, options: &[&str], program: &[&str]) -> Option<Output> {
    chmod(folder, Mode::from_raw_mode(0o755)).unwrap();
    // Others may not be allowed to read the sources, or to build from them.
    let built = Path::new(assert_cmd::cargo::cargo_bin!("splitlock"));
    let copy = folder.join("splitlock");
    fs::copy(built, &copy).unwrap();
    let library = "libsplit_lock_plugin.so";
    fs::copy(built.with_file_name(library), folder.join(library)).unwrap();
    let mut command = Command::new(copy);
    as_nobody(command.arg("find").args(options).arg("--").args(program))
}

#[test]
fn filters_of_system_calls_are_refused_inside_and_no_obstacle_outside() {
    needs_emulator!();
    let (inside, code) = found(&[&program("exec"), "seccomp", "true"]);
    assert_eq!((sites(&inside).len(), code), (1, Some(55)), "{inside}");

    let splitlock = assert_cmd::cargo::cargo_bin!("splitlock");
    let mut command = Command::new(program("exec"));
    command
        .arg("seccomp")
        .arg(splitlock)
        .args(["find", "--json", "--"]);
    command.args([&program("exec"), "path", &program("exec"), "3"]);
    let output = command.output().unwrap();
    let outside: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        (&outside["programs"], &outside["complete"]),
        (&2.into(), &true.into())
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
    let until_removed = tempfile::NamedTempFile::new().unwrap();
    let path = until_removed.path().to_str().unwrap();
    let output = output(&[], &[&program("exec"), "daemon", "/bin/true", path]);
    assert_eq!(output.status.code(), Some(0));
    let page = said(&output);
    assert!(page.contains("1 instruction split locks, 1 time"), "{page}");
    assert!(
        page.contains("still running, and not told of from now on"),
        "{page}"
    );
}
