//! `splitlock doctor`

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::Value;

use super::{complaint, fail, fifo, names_in, put, run, splitlock};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn doctor(fixture: &str, more: &[&str]) -> Output {
    let root = fixtures().join(fixture);
    run(&[&["doctor", "--root", root.to_str().unwrap()], more].concat())
}

fn text(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_page_says_what_is_the_matter_and_what_to_do() {
    let output = doctor("tiger-lake-6.6", &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let page = text(&output);
    let sections = ["At risk of livelock", "Why", "What it costs", "What to do"];
    let places = sections.map(|section| page.find(&format!("{section}\n")).unwrap());
    assert!(places.is_sorted(), "{page}");
    for said in [
        "a sleep of 16ms to 20ms",
        "a signal every 12ms or more often",
        "now:      sudo sysctl kernel.split_lock_mitigate=0\n",
        "for good: echo 'kernel.split_lock_mitigate = 0' | sudo tee /etc/sysctl.d/60-split-lock.conf\n",
        "Gives up: whoever splits locks is no longer slowed down",
    ] {
        assert!(page.contains(said), "{said}: {page}");
    }
    // Not on a terminal.
    assert!(!page.contains('\u{1b}'), "{page}");
    assert!(page.is_ascii() && output.stderr.is_empty());
}

#[test]
fn the_exit_code_tells_what_was_found() {
    for (fixture, code) in [
        ("tiger-lake-6.6", 1),
        ("sapphire-rapids-ratelimit", 1),
        ("fatal", 1),
        ("guest-trapped", 1),
        ("rootless-container", 1),
        ("zen-2", 0),
        ("zen-5-6.13", 0),
        ("off", 0),
        ("mitigate-0", 0),
        ("not-compiled-in", 0),
        ("guest", 3),
        ("nothing-to-see", 3),
    ] {
        let output = doctor(fixture, &[]);
        assert_eq!(output.status.code(), Some(code), "{fixture}: {output:?}");
    }
}

/// Whatever machine this is, the doctor can say something about it.
#[test]
fn this_machine_has_a_verdict() {
    let output = run(&["doctor", "--json"]);
    assert!(
        matches!(output.status.code(), Some(0 | 1 | 3)),
        "{output:?}"
    );
    let found = json(&output);
    assert_eq!(found["schema"], "splitlock-doctor");
    let flags = found["facts"]["cpu_flags"]["seen"]["is"]
        .as_array()
        .unwrap();
    let can_detect = |flag: &str| flags.iter().any(|there| there == flag);
    let is_amd = found["facts"]["cpu_vendor"]["seen"]["is"] == "AuthenticAMD";
    if is_amd && !can_detect("bus_lock_detect") {
        assert_eq!(found["verdict"]["condition"]["is"], "not_applicable");
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(found["verdict"]["fixes"], Value::Array(vec![]));
    }
}

#[test]
fn programs_get_the_same_as_people() {
    let output = doctor("sapphire-rapids", &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let found = json(&output);
    assert_eq!(found["verdict"]["condition"]["is"], "livelock");
    assert_eq!(found["verdict"]["basis"], "boot_line");
    assert_eq!(found["answer"], "found");
    assert_eq!(found["verdict"]["cost"]["trap"]["never_up_to"], 10_000_000);
    assert_eq!(found["facts"]["hz"]["seen"]["is"], 1000);
    assert_eq!(found["facts"]["hz"]["from"], "/boot/config-6.8.0-1018-gcp");
    assert_eq!(found["facts"]["kvm"]["bus_lock_exit"]["seen"]["is"], 3);
    let refused = json(&doctor("rootless-container", &["--format", "json"]));
    let log = &refused["history"]["seen"]["could_not_see"];
    assert_eq!(log["path"], "/dev/kmsg");
}

#[test]
fn metrics_have_help_type_and_value() {
    let output = doctor("tiger-lake-6.6", &["--format", "prometheus"]);
    let metrics = text(&output);
    for line in [
        "splitlock_verdict_info{condition=\"livelock\",basis=\"boot_line\"} 1",
        "splitlock_verdict_exit_code 1",
        "splitlock_livelock_up_to_seconds 0.012",
        "splitlock_logged_traps{exception=\"AC\"} 3",
    ] {
        assert!(
            metrics.lines().any(|there| there == line),
            "{line}: {metrics}"
        );
    }
    let mut announced = vec![];
    for line in metrics.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            announced.push(rest.strip_suffix(" gauge").unwrap());
        } else if !line.starts_with("# HELP ") {
            let name = line.split(['{', ' ']).next().unwrap();
            assert_eq!(announced.last(), Some(&name), "{metrics}");
            line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap();
        }
    }
    let mut once = announced.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), announced.len(), "{metrics}");
}

/// A collector may read it at any moment.
#[test]
fn a_file_appears_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out");
    let out = ["--out", file.to_str().unwrap()];
    for format in ["text", "json", "prometheus"] {
        let format = ["--format", format];
        let expected = doctor("tiger-lake-6.6", &format);
        let output = doctor("tiger-lake-6.6", &[&format[..], &out].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(text(&output), "");
        assert_eq!(fs::read(&file).unwrap(), expected.stdout);
        assert_eq!(names_in(folder.path()), ["out"]);
    }
    let before = fs::read(&file).unwrap();
    fail(&[&["doctor", "--root", "/missing"], &out[..]].concat());
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_eq!(names_in(folder.path()), ["out"]);
    let both = doctor("zen-2", &[&out[..], &["--capture", out[1]]].concat());
    assert!(complaint(&both).contains("the same place"), "{both:?}");
}

/// A log that somebody else has sent.
#[test]
fn another_log_can_be_given() {
    let log = b"[    0.000000] Linux version 6.6.58-1-lts (x)\n\
        [    0.100000] x86/split lock detection: disabled\n";
    let root = fixtures().join("tiger-lake-6.6");
    let mut command = splitlock(&["doctor", "--log", "-", "--root", root.to_str().unwrap()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(log).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        text(&output).starts_with("Detection is off\n"),
        "{}",
        text(&output)
    );
    // Of another kernel: it was asked about, and this machine's settings say nothing of it.
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("log");
    let renamed = String::from_utf8_lossy(log).replace("6.6.58", "6.7");
    put(&other, renamed.as_bytes());
    let output = doctor("tiger-lake-6.6", &["--log", other.to_str().unwrap()]);
    assert!(
        text(&output).starts_with("Detection is off\n"),
        "{}",
        text(&output)
    );
    let words: Vec<_> = text(&output).split_whitespace().collect();
    assert!(
        words
            .join(" ")
            .contains("this is about the machine that the log is from"),
        "{}",
        text(&output)
    );
}

/// One pasted line is enough to know that it is not of a machine of AMD's, virtual or not.
#[test]
fn a_trap_that_this_machine_cannot_have_is_another_machines() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("line");
    put(
        &log,
        b"x86/split lock detection: #AC: OldGame.exe/4242 took a split_lock trap at address: 0x15f853006\n",
    );
    for fixture in ["zen-2", "guest-amd"] {
        let output = doctor(fixture, &["--log", log.to_str().unwrap()]);
        let page = text(&output);
        assert_ne!(output.status.code(), Some(0), "{page}");
        assert!(page.contains("OldGame.exe: 1 trap"), "{page}");
        for wrong in ["Not applicable", "Nothing has to be done", "ended since"] {
            assert!(!page.contains(wrong), "{fixture}: {page}");
        }
    }
}

#[test]
fn a_capture_is_as_good_as_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    for (n, more) in [&[][..], &["--redact"]].into_iter().enumerate() {
        let file = folder.path().join(format!("{n}.tar"));
        let file = file.to_str().unwrap();
        let first = doctor("tiger-lake-6.6", &[&["--capture", file], more].concat());
        let again = run(&["doctor", "--root", file]);
        assert_eq!(again.status.code(), first.status.code());
        let place = |page: &str| page.replace("/splitlock/kernel.log", "/var/log/dmesg");
        let words = |page: &str| {
            place(page)
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        if more.is_empty() {
            assert_eq!(words(text(&again)), words(text(&first)));
        }
    }
}

/// What a redacted capture must not hold.
#[test]
fn nothing_private_is_left_in_a_redacted_capture() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let secret = "s3cr3t";
    for (path, content) in [
        (
            "proc/cpuinfo",
            "vendor_id : GenuineIntel\nflags : split_lock_detect\n".to_owned(),
        ),
        (
            "proc/cmdline",
            format!("root=UUID={secret} token={secret} split_lock_detect=warn\n"),
        ),
        ("proc/sys/kernel/osrelease", "6.6.1\n".into()),
        ("proc/sys/kernel/hostname", secret.into()),
        (
            "boot/config-6.6.1",
            format!("CONFIG_HZ=250\nCONFIG_DEFAULT_HOSTNAME=\"{secret}\"\n"),
        ),
        (
            "proc/1/environ",
            format!("PASSWORD={secret}\0container=lxc\0"),
        ),
        (
            "proc/77/cmdline",
            format!(
                "/home/{secret}/qemu-system-x86_64\0-name\0guest={secret}\0-enable-kvm\0-drive\0file=/{secret}\0"
            ),
        ),
        ("proc/77/comm", "qemu-system-x86\n".into()),
        (
            "proc/77/status",
            "Name:\tqemu-system-x86\nTgid:\t77\nPid:\t77\nPPid:\t1\n".into(),
        ),
        (
            "proc/77/cgroup",
            format!("0::/machine.slice/machine-qemu\\x2d1\\x2d{secret}.scope/libvirt/emulator\n"),
        ),
        (
            "var/log/kern.log",
            format!(
                "Nov 11 03:49:25 {secret} kernel: [    0.000000] Linux version 6.6.1 ({secret}@x)\n\
                 Nov 11 03:49:25 {secret} kernel: [    9.000000] x86/split lock detection: #AC: \
                 qemu-system-x86/77 took a split_lock trap at address: 0x1234\n\
                 Nov 11 03:49:25 {secret} kernel: [    9.000000] user {secret} did something\n"
            ),
        ),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        put(&path, content.as_bytes());
    }
    let file = folder.path().join("capture.tar");
    let (root, file) = (root.to_str().unwrap(), file.to_str().unwrap());
    run(&["doctor", "--root", root, "--capture", file, "--redact"]);
    let bytes = fs::read(file).unwrap();
    let capture = String::from_utf8_lossy(&bytes);
    assert!(!capture.contains(secret), "{capture}");
    for kept in ["split_lock_detect=warn", "0x1234", "CONFIG_HZ=250\n"] {
        assert!(capture.contains(kept), "{kept}: {capture}");
    }
    // Nobody's environment is anybody's business, redacted or not.
    run(&["doctor", "--root", root, "--capture", file]);
    let bytes = fs::read(file).unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("PASSWORD"));
}

#[test]
fn a_hostile_machine_is_looked_at_in_peace() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("proc")).unwrap();
    fs::create_dir_all(root.join("var/log")).unwrap();
    fifo(&root.join("proc/cpuinfo"));
    std::os::unix::fs::symlink("cmdline", root.join("proc/cmdline")).unwrap();
    put(
        &root.join("var/log/dmesg"),
        b"x86/split lock detection: #AC: \x1b[31mred\x07/7 took a split_lock trap at address: 0x10\n",
    );
    let output = run(&["doctor", "--root", root.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(!text(&output).contains(['\u{1b}', '\u{7}']));
    assert!(
        text(&output).contains("flags could not be seen"),
        "{}",
        text(&output)
    );
}

#[test]
fn what_cannot_be_done_is_said() {
    let error = fail(&["doctor", "--root", "/missing"]);
    assert!(error.contains("cannot look at /missing"), "{error}");
    let error = fail(&["doctor", "--root", "/dev/null"]);
    assert!(error.contains("neither a folder nor"), "{error}");
    let error = fail(&["doctor", "--log", "/missing"]);
    assert!(error.contains("cannot read /missing"), "{error}");
    // As what follows a pipe from a command that has failed.
    let error = fail(&["doctor", "--log", "/dev/null"]);
    assert!(error.contains("/dev/null: it is empty"), "{error}");
    let error = fail(&["doctor", "--redact"]);
    assert!(error.contains("--capture"), "{error}");
    let capture = doctor("zen-2", &["--capture", "/missing/x.tar"]);
    assert!(complaint(&capture).contains("/missing/x.tar"));
}
