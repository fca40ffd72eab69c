//! Bad input and bad luck.

use std::os::unix::fs::symlink;

use super::super::{complaint, in_mount_namespace};
use super::{find, needs_emulator, output, program, said, script};

fn complaint_about(options: &[&str], program: &[&str]) -> String {
    complaint(&output(options, program))
}

#[test]
fn programs_that_cannot_be_started_are_named() {
    needs_emulator!();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, lines: &str| script(folder.path(), name, lines);
    for (program, part) in [
        (
            "missing-program".to_owned(),
            "no program missing-program in the folders of PATH",
        ),
        ("./missing".to_owned(), "No such file"),
        (file("text", "echo"), "start its interpreter: sh "),
        (file("nameless", "#!\n"), "names no interpreter"),
        (file("damaged", "\x7fELF"), "damaged"),
        (
            file(
                "foreign",
                &format!("\x7fELF\x02\x01\x01{}\u{37}\0", "\0".repeat(11)),
            ),
            "not for x86-64",
        ),
        ("/".to_owned(), "not a file that can be executed"),
        ("/etc/passwd".to_owned(), "may not be executed"),
    ] {
        let complaint = complaint_about(&[], &[&program]);
        assert!(complaint.contains(part), "{program}: {complaint}");
    }
}

#[test]
fn an_emulator_that_is_missing_or_takes_no_plugins_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = find(&[], &["/bin/true"]);
    let output = command.env("PATH", folder.path()).output().unwrap();
    let missing = complaint(&output);
    assert!(
        missing.contains("qemu-x86_64 is missing") && missing.contains("qemu-user"),
        "{missing}"
    );

    let options = ["--qemu", folder.path().to_str().unwrap()];
    let missing = complaint_about(&options, &["/bin/true"]);
    assert!(missing.contains("there is no qemu-x86_64 in"), "{missing}");

    script(
        folder.path(),
        "qemu-x86_64",
        "#!/bin/sh\necho '-one  two'\n",
    );
    let without = complaint_about(&options, &["/bin/true"]);
    assert!(
        without.contains("built without plugins") && without.contains("--qemu"),
        "{without}"
    );

    script(
        folder.path(),
        "qemu-x86_64",
        "#!/bin/sh\necho 'cannot open library' >&2\nexit 1\n",
    );
    let broken = complaint_about(&options, &["/bin/true"]);
    assert!(
        broken.contains("does not run: cannot open library"),
        "{broken}"
    );
}

#[test]
fn an_emulator_that_records_nothing_is_not_a_program_without_split_locks() {
    let folder = tempfile::tempdir().unwrap();
    script(
        folder.path(),
        "qemu-x86_64",
        "#!/bin/sh\necho '-plugin  x'\n",
    );
    let options = ["--qemu", folder.path().to_str().unwrap()];
    let nothing = complaint_about(&options, &["/bin/true"]);
    assert!(nothing.contains("nothing was recorded"), "{nothing}");
}

#[test]
fn an_emulator_of_an_unknown_plugin_version_is_told_of() {
    let output = output(&["--qemu", &program("unknown")], &["/bin/true"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("plugin interface (version 99) has no function qemu_plugin_")
            && text.contains("use QEMU 7.2 to 11")
            && text.contains("nothing was recorded"),
        "{text}"
    );
}

#[test]
fn other_options_are_checked_before_anything_is_started() {
    needs_emulator!();
    let folder = tempfile::tempdir().unwrap();
    let bad = script(folder.path(), "bad.supp", "{\n");
    let text = script(folder.path(), "text", "hello\n");
    for (options, program, part) in [
        (&["--suppress", &bad][..], &["true"][..], "has no end"),
        (
            &["--suppress", "/missing"],
            &["true"],
            "cannot read suppressions",
        ),
        (&["--out", "/missing/a"], &["true"], "/missing/a"),
        (&["--symbols", &text], &["true"], "--system"),
        (
            &["--system", "--symbols", &text],
            &["qemu-system-x86_64"],
            "System.map",
        ),
        (&["--system"], &["true"], "not qemu-system-x86_64"),
        (
            &["--system"],
            &["qemu-system-x86_64", "-enable-kvm"],
            "runs on the CPU",
        ),
    ] {
        let complaint = complaint_about(options, program);
        assert!(complaint.contains(part), "{complaint}");
    }
}

#[test]
fn a_full_disk_is_named() {
    needs_emulator!();
    // The files of records are larger than what there is.
    let Some(output) = in_mount_namespace(
        "mount -t tmpfs -o size=64k none \"$1\" 2>/dev/null || exit 77; TMPDIR=\"$1\" exec \"$0\" find -- true",
    ) else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("No space left on device") && text.contains("nothing was recorded"),
        "{text}"
    );
}

#[test]
fn an_emulator_by_a_link_in_another_folder_is_used() {
    needs_emulator!();
    let folder = tempfile::tempdir().unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let mut folders = std::env::split_paths(&path).map(|folder| folder.join("qemu-x86_64"));
    let emulator = folders.find(|path| path.exists()).unwrap();
    symlink(emulator, folder.path().join("qemu-x86_64")).unwrap();
    let options = ["--qemu", folder.path().to_str().unwrap()];
    assert_eq!(
        output(&options, &[&program("exec"), "6"]).status.code(),
        Some(6)
    );
    let missing = complaint_about(&options, &[&program("small32")]);
    assert!(missing.contains("there is no qemu-i386 in"), "{missing}");
}
