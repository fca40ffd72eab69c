//! `splitlock demo linux`, with guests that are no Linux but a few instructions in a kernel's file.

use std::path::PathBuf;
use std::process::Output;

use tempfile::TempDir;

use super::{complaint, fail, needs_kvm, put, signal, splitlock};

/// Where a kernel of one sector of setup code has its 64-bit entry, in its file.
const ENTRY: usize = 2 * 512 + 0x200;

/// Writes what follows it to the serial line.
const WRITE: [u8; 19] = [
    0x48, 0x8d, 0x35, 0x0e, 0, 0, 0, // lea rsi, [rip + 14]: behind what comes then
    0x66, 0xba, 0xf8, 0x03, // mov dx, 3f8h
    0xac, // 1: lodsb
    0x84, 0xc0, // test al, al
    0x74, 0x03, // jz 2f
    0xee, // out dx, al
    0xeb, 0xf8, // jmp 1b
];

/// Waits for ever, with interrupts off.
const WAIT: [u8; 2] = [0xeb, 0xfe];
/// An exception that nothing handles: a triple fault.
const RESTART: [u8; 2] = [0x0f, 0x0b];

const BEGIN: &str = "splitlock: 1000 split locks begin\n";
const END: &str = "splitlock: all 1000 split locks are done\n";
const STALL: &str = "[    9.1] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n";

/// A folder with a `bzImage` that says something and then does something.
fn kernel(says: &str, then: [u8; 2]) -> (TempDir, PathBuf) {
    let mut file = vec![0; ENTRY];
    let mut set = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    set(0x1f1, &[1]);
    set(0x202, b"HdrS");
    set(0x206, &0x020fu16.to_le_bytes());
    set(0x20e, &0x100u16.to_le_bytes());
    set(0x211, &[1]);
    set(0x22c, &0x7fff_ffffu32.to_le_bytes());
    set(0x236, &1u16.to_le_bytes());
    set(0x238, &2047u32.to_le_bytes());
    set(0x258, &0x10_0000u64.to_le_bytes());
    set(0x260, &0x10_0000u32.to_le_bytes());
    set(0x300, b"6.99-test #1\0");
    file.extend(WRITE);
    file.extend(then);
    file.extend(says.bytes());
    file.push(0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bzImage");
    put(&path, &file);
    (folder, path)
}

fn demo(says: &str, then: [u8; 2], arguments: &[&str]) -> Output {
    let (_folder, path) = kernel(says, then);
    let kernel = path.to_str().unwrap();
    let always = ["demo", "linux", "--kernel", kernel, "--memory", "16MiB"];
    let short = ["--boot-timeout", "2s", "--duration", "2s"];
    let arguments = [&always[..], &short, arguments].concat();
    splitlock(&arguments).output().unwrap()
}

/// What it says last on standard error, after notes about this host.
fn last_complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().last().unwrap_or_default().to_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn files_that_are_no_kernels_are_refused() {
    needs_kvm!();
    let (folder, path) = kernel("", WAIT);
    let broken = folder.path().join("broken");
    put(&broken, &[0; 4096]);
    let short = folder.path().join("short");
    put(&short, &[0; 16]);
    let kernel = path.to_str().unwrap();
    for (arguments, expected) in [
        (
            &["--kernel", "/missing"][..],
            "cannot read the kernel /missing",
        ),
        (&["--kernel", short.to_str().unwrap()], "too short"),
        (&["--kernel", "/"], "cannot read the kernel /"),
        (&["--kernel", "/dev/zero"], "no ordinary file"),
        (
            &["--kernel", kernel, "--initrd", "/dev/zero"],
            "no ordinary file",
        ),
        (&["--kernel", broken.to_str().unwrap()], "is not a bzImage"),
        (
            &["--kernel", kernel, "--initrd", "/missing"],
            "cannot read the initrd /missing",
        ),
        (
            &["--kernel", kernel, "--append", &"x".repeat(3000)],
            "make it shorter",
        ),
    ] {
        let sentence = fail(&[&["demo", "linux"], arguments].concat());
        assert!(sentence.contains(expected), "{arguments:?}: {sentence}");
    }
}

#[test]
fn an_initrd_that_does_not_fit_is_refused() {
    needs_kvm!();
    let (folder, path) = kernel("", WAIT);
    let large = folder.path().join("initrd");
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&large);
    file.unwrap().set_len(20 << 20).unwrap();
    let sentence = fail(&[
        "demo",
        "linux",
        "--memory",
        "16MiB",
        "--kernel",
        path.to_str().unwrap(),
        "--initrd",
        large.to_str().unwrap(),
    ]);
    assert!(sentence.contains("does not fit into 16 MiB"), "{sentence}");
    assert!(sentence.contains("--memory"), "{sentence}");
}

#[test]
fn without_kvm_there_is_a_sentence() {
    let sentence = fail(&["demo", "linux", "--kernel", "x", "--kvm", "/missing"]);
    assert!(sentence.contains("/missing"), "{sentence}");
}

#[test]
fn a_guest_that_comes_to_no_good_end_is_an_error_that_says_which() {
    needs_kvm!();
    let panic = "Kernel panic - not syncing: No working init found.\n";
    for (says, then, expected) in [
        ("", WAIT, "no serial output from the guest in 2s"),
        (
            "[ 0.0] Linux\n",
            WAIT,
            "the last that it said was `[ 0.0] Linux`",
        ),
        ("guest# ", WAIT, "has not started the program"),
        (panic, RESTART, "No working init found"),
        ("reboot: Power down\n", WAIT, "has switched itself off"),
        ("", RESTART, "has restarted before"),
    ] {
        let output = demo(says, then, &[]);
        let sentence = last_complaint(&output);
        assert!(sentence.contains(expected), "{says:?}: {sentence}");
    }
}

#[test]
fn a_guest_that_gets_through_is_fine() {
    needs_kvm!();
    let says = format!("guest# \n{BEGIN}splitlock: 100 done\n{END}guest# ");
    let output = demo(&says, WAIT, &["--fail-on", "hang"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = said(&output);
    assert!(said.starts_with("Linux 6.99-test as a guest"), "{said}");
    assert!(said.contains("| splitlock: 100 done\n"), "{said}");
    assert!(said.contains("got through all 1000 split locks"), "{said}");
}

#[test]
fn a_guest_that_complains_hangs() {
    needs_kvm!();
    let says = format!("guest# \n{BEGIN}\x1b[2J{STALL}");
    let output = demo(&says, WAIT, &["--fail-on", "hang"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = said(&output);
    assert!(
        text.contains("The guest hangs: 0 split locks done"),
        "{text}"
    );
    assert!(text.contains("RCU stall"), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
    // Unless that is asked for it is no reason to fail.
    assert_eq!(demo(&says, WAIT, &[]).status.code(), Some(0));
}

#[test]
fn a_guest_that_hangs_without_a_complaint_is_not_called_healthy() {
    needs_kvm!();
    let says = format!("guest# \n{BEGIN}");
    let output = demo(&says, WAIT, &["--fail-on", "hang"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = said(&output);
    for part in [
        "The guest hangs: 0 split locks done",
        "no complaints in the guest's log, although it hangs",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_guest_that_restarts_or_powers_off_is_not_called_healthy() {
    needs_kvm!();
    for (last, expected) in [
        ("", "has restarted"),
        ("reboot: Power down\n", "switched itself off"),
    ] {
        let says = format!("guest# \n{BEGIN}splitlock: 1 done\n{last}");
        let output = demo(&says, RESTART, &["--fail-on", "hang"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let text = said(&output);
        assert!(
            text.contains(expected) && text.contains("1 of 1000"),
            "{text}"
        );
        assert!(!text.contains("no complaints"), "{text}");
    }
}

#[test]
fn json_says_the_same_and_the_log_has_the_console() {
    needs_kvm!();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("console");
    let says = format!("guest# \n{BEGIN}splitlock: 300 done\n{STALL}");
    let output = demo(&says, WAIT, &["--json", "--log", log.to_str().unwrap()]);
    let found: serde_json::Value = serde_json::from_str(&said(&output)).unwrap();
    assert_eq!(found["schema"], "splitlock-demo");
    assert_eq!(found["hung"], true);
    assert_eq!(found["ending"], "time-is-over");
    assert_eq!(found["split_locks_done"], 300);
    assert_eq!(found["complaints"][0]["kind"], "rcu-stall");
    assert!(found["runs"].as_u64().unwrap() > 0, "{found}");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), says);
}

#[test]
fn ctrl_c_ends_it() {
    needs_kvm!();
    let (_folder, path) = kernel("hello\n", WAIT);
    let mut child = splitlock(&["demo", "linux", "--memory", "16MiB", "--kernel"])
        .arg(&path)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("| hello") {
        line.clear();
        assert_ne!(std::io::BufRead::read_line(&mut out, &mut line).unwrap(), 0);
    }
    signal(&child, rustix::process::Signal::INT);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
}

#[test]
fn two_results_in_one_place_are_refused() {
    let output = splitlock(&["demo", "linux", "--kernel", "x", "--json", "--log", "-"]).output();
    let sentence = complaint(&output.unwrap());
    assert!(sentence.contains("same place"), "{sentence}");
}
