//! A machine without KVM, guests that misbehave, disks that are full: one sentence each, and nothing
//! lost.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use split_lock_repro::results::Sample;

use super::{
    as_nobody, complaint, fail, fifo, in_mount_namespace, names_in, needs_kvm, put, read_csv,
    signal, splitlock,
};

const QUICK: [&str; 5] = ["sweep", "--timeouts", "2ms", "--repeat", "1"];

fn fail_quickly(more: &[&str]) -> String {
    fail(&[&QUICK[..], more].concat())
}

#[test]
fn without_kvm_a_sweep_says_what_to_load() {
    let folder = tempfile::tempdir().unwrap();
    let output = splitlock(&["sweep", "--kvm", "/nonexistent", "--csv", "a.csv"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let sentence = complaint(&output);
    assert!(
        sentence.contains("/nonexistent") && sentence.contains("kvm_intel"),
        "{sentence}"
    );
    assert!(
        names_in(folder.path()).is_empty(),
        "something was left behind"
    );
    let sentence = fail_quickly(&["--kvm", "/dev/null"]);
    assert!(sentence.contains("not a KVM device"), "{sentence}");
}

#[test]
fn without_kvm_a_report_is_modelled_and_says_so_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let output = splitlock(&["reproduce", "--kvm", "/nonexistent"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let note = String::from_utf8(output.stderr).unwrap();
    assert_eq!(note.lines().count(), 1, "{note}");
    assert!(
        note.contains("kvm_intel") && note.contains("everything here is modelled"),
        "{note}"
    );
    let report = folder.path().join("splitlock-report");
    let sweep = read_csv(&report.join("progress.csv"));
    let modelled = |sample: &Sample| sample.series.starts_with("modelled (");
    assert!(!sweep.samples.is_empty() && sweep.samples.iter().all(modelled));
    assert!(report.join("timeline.svg").exists());
}

#[test]
fn without_permission_it_says_which_group_to_join() {
    let device = tempfile::NamedTempFile::new().unwrap();
    let nobody = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    device.as_file().set_permissions(nobody).unwrap();
    let mut command = splitlock(&["sweep", "--kvm", device.path().to_str().unwrap()]);
    let Some(output) = as_nobody(&mut command) else {
        return;
    };
    let sentence = complaint(&output);
    assert!(
        sentence.contains("permission denied") && sentence.contains("usermod"),
        "{sentence}"
    );
}

#[test]
fn guests_that_misbehave_are_named_and_results_of_before_survive() {
    needs_kvm!();
    let folder = tempfile::tempdir().unwrap();
    let (guest, csv) = (folder.path().join("guest.bin"), folder.path().join("a.csv"));
    put(&csv, b"precious");
    for (level, code, expected) in [
        ("cpl3", &[0x0f, 0x0b][..], "triple fault"),
        ("cpl0", &[0xf4], "halted"),
        ("cpl3", &[0xf4], "triple fault"),
        ("cpl3", &[0xe6, 0x80], "port 0x80"),
        ("cpl3", &[0xe4, 0x80], "read from I/O port 0x80"),
        // mov eax, [0x2000000]
        ("cpl3", &[0x8b, 0x04, 0x25, 0, 0, 0, 2], "no memory"),
    ] {
        put(&guest, code);
        let (guest, csv) = (guest.to_str().unwrap(), csv.to_str().unwrap());
        let sentence = fail_quickly(&["--guest", guest, "--level", level, "--csv", csv]);
        assert!(
            sentence.contains(expected) && sentence.contains(guest),
            "{sentence}"
        );
    }
    assert_eq!(std::fs::read(&csv).unwrap(), b"precious");
    assert_eq!(names_in(folder.path()), ["a.csv", "guest.bin"]);
}

#[test]
fn guest_files_are_checked_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let guest = folder.path().join("guest.bin");
    let path = guest.to_str().unwrap();
    put(&guest, b"");
    assert!(fail_quickly(&["--guest", path]).contains("is empty"));
    put(&guest, &[0x90; 4097]);
    let near_the_end = ["--guest", path, "--load-address", "0xfff000"];
    assert!(fail_quickly(&near_the_end).contains("4096 bytes at most"));
    let outside = ["--guest", path, "--load-address", "0x1000000"];
    assert!(fail_quickly(&outside).contains("cannot be loaded at"));
    assert!(fail_quickly(&["--guest", "./missing"]).contains("No such file"));
    assert!(fail_quickly(&["--guest", path, "--offsets", "0..63"]).contains("built-in"));
}

#[test]
fn outputs_are_checked_before_anything_runs() {
    for (more, expected) in [
        (["--csv", "/nonexistent/a.csv"], "No such file"),
        (["--json", "/"], "folder"),
        (["--csv", "/proc/a.csv"], "cannot write to /proc/a.csv"),
    ] {
        let sentence = fail_quickly(&more);
        assert!(sentence.contains(expected), "{sentence}");
    }
}

#[test]
fn a_full_device_is_an_error() {
    needs_kvm!();
    let sentence = fail_quickly(&["--csv", "/dev/full"]);
    assert!(
        sentence.contains("/dev/full") && sentence.contains("No space left"),
        "{sentence}"
    );
}

/// In a mount namespace of its own, so that the small disk is nobody else's.
#[test]
fn on_a_full_disk_the_results_of_before_survive() {
    needs_kvm!();
    let script = r#"
        mount -t tmpfs -o size=16k none "$1" || exit 77
        echo precious > "$1/a.csv"
        "$0" sweep --guest none --timeouts 1us..200us/1us --csv "$1/a.csv" > "$1/out"
        code=$?
        ls -A "$1" >&2
        cat "$1/a.csv" >&2
        exit $code
    "#;
    let Some(output) = in_mount_namespace(script) else {
        return;
    };
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let lines: Vec<&str> = stderr.lines().collect();
    assert!(lines[0].contains("No space left"), "{stderr}");
    assert_eq!(lines[1..], ["a.csv", "out", "precious"], "{stderr}");
}

#[test]
fn a_report_does_not_overwrite_what_is_not_a_report() {
    let folder = tempfile::tempdir().unwrap();
    put(&folder.path().join("thesis.txt"), b"precious");
    let sentence = fail(&["reproduce", "--out", folder.path().to_str().unwrap()]);
    assert!(sentence.contains("thesis.txt"), "{sentence}");
    let file = folder.path().join("thesis.txt");
    let sentence = fail(&["reproduce", "--out", file.to_str().unwrap()]);
    assert!(sentence.contains("as a folder"), "{sentence}");
    assert_eq!(std::fs::read(Path::new(&file)).unwrap(), b"precious");
    assert_eq!(names_in(folder.path()), ["thesis.txt"]);
}

/// The folder is a mount point, and where the user stands: it can be neither renamed nor replaced.
#[test]
fn a_report_goes_into_a_mounted_folder() {
    needs_kvm!();
    let script = r#"
        mount -t tmpfs none "$1" && cd "$1" || exit 77
        "$0" reproduce --out . >&2 & pid=$!
        sleep 2
        kill -TERM $pid
        wait $pid
        [ $? = 130 ] && ls -A .
    "#;
    let Some(output) = in_mount_namespace(script) else {
        return;
    };
    let names = String::from_utf8(output.stdout).unwrap();
    let names: Vec<_> = names.lines().collect();
    assert!(names.contains(&"report.html"), "{names:?}");
    assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
}

#[test]
fn a_report_does_not_overwrite_files_that_are_named_like_one() {
    let folder = tempfile::tempdir().unwrap();
    put(&folder.path().join("progress.csv"), b"precious");
    let sentence = fail(&["reproduce", "--out", folder.path().to_str().unwrap()]);
    assert!(
        sentence.contains("progress.csv") && sentence.contains("--out"),
        "{sentence}"
    );
    assert_eq!(names_in(folder.path()), ["progress.csv"]);
}

#[test]
fn a_pipe_that_nobody_reads_is_no_reason_to_wait() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    fifo(&pipe);
    let sentence = fail_quickly(&["--csv", pipe.to_str().unwrap()]);
    assert!(sentence.contains("nobody reads"), "{sentence}");
}

#[test]
fn a_file_that_the_user_may_not_write_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode;
    let csv = folder.path().join("a.csv");
    std::fs::set_permissions(folder.path(), mode(0o777)).unwrap();
    put(&csv, b"precious");
    std::fs::set_permissions(&csv, mode(0o444)).unwrap();
    let mut command = splitlock(&["sweep", "--csv", csv.to_str().unwrap()]);
    let Some(output) = as_nobody(&mut command) else {
        return;
    };
    let sentence = complaint(&output);
    assert!(sentence.contains("a.csv: Permission denied"), "{sentence}");
    assert_eq!(names_in(folder.path()), ["a.csv"]);
}

/// The pipe is full and its reader does not read, so the program cannot get on by itself.
#[test]
fn a_second_ctrl_c_ends_it_at_once_and_leaves_nothing_behind() {
    needs_kvm!();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fifo(&at("pipe"));
    // Both ends, so that opening it does not wait.
    let mut reader = File::options()
        .read(true)
        .write(true)
        .open(at("pipe"))
        .unwrap();
    let arguments = ["sweep", "--guest", "none", "--timeouts", "10us"];
    let mut child = splitlock(&arguments)
        .args(["--repeat", "5000"])
        .args(["--csv", at("pipe").to_str().unwrap()])
        .args(["--json", at("a.json").to_str().unwrap()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It has come to writing when something can be read.
    reader.read_exact(&mut [0]).unwrap();
    assert_eq!(names_in(folder.path()).len(), 2, "no draft to lose");
    signal(&child, Signal::TERM);
    std::thread::sleep(Duration::from_millis(200));
    assert!(child.try_wait().unwrap().is_none(), "ended by the first");
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(names_in(folder.path()), ["pipe"]);
}

/// As `nohup` does.
#[test]
fn a_signal_that_is_to_be_ignored_is_ignored() {
    needs_kvm!();
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("a.csv");
    let script = r#"trap "" HUP; exec "$0" "$@""#;
    let start = Instant::now();
    let mut child = Command::new("sh")
        .args(["-c", script])
        .arg(assert_cmd::cargo::cargo_bin!("splitlock"))
        .args(["sweep", "--guest", "none", "--timeouts", "10ms"])
        .args(["--repeat", "150", "--csv", csv.to_str().unwrap()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(700));
    signal(&child, Signal::HUP);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(start.elapsed() > Duration::from_millis(1500));
    assert_eq!(read_csv(&csv).samples.len(), 150);
}
