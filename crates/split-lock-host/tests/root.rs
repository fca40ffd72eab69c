//! Machines' files, also where somebody means harm.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use split_lock_host::{Capture, History, LogCopy, MOST_BYTES, Observed, Root};

#[path = "common/files.rs"]
mod files;
use files::write;

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap();
}

fn why<T: std::fmt::Debug>(seen: Observed<T>) -> String {
    match seen {
        Observed::Unreadable { why, .. } => why,
        other => panic!("seen: {other:?}"),
    }
}

#[test]
fn nothing_outside_of_the_root_is_reached() {
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), "secret", b"outside");
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "etc/passwd", b"inside");
    let secret = outside.path().join("secret");
    symlink(&secret, folder.path().join("absolute")).unwrap();
    symlink(
        "../../../../../../etc/passwd",
        folder.path().join("upwards"),
    )
    .unwrap();
    symlink("/etc/passwd", folder.path().join("own")).unwrap();
    let root = Root::open(folder.path()).unwrap();
    assert!(!root.is_live());
    assert_eq!(root.text("absolute"), Observed::Absent);
    // As on the machine itself: above its root is its root.
    for path in ["upwards", "own", "../../etc/passwd", "/etc/passwd"] {
        assert_eq!(root.text(path), Observed::Is("inside".into()), "{path}");
    }
    assert_eq!(root.link("absolute"), Observed::Is(secret));
}

#[test]
fn what_would_block_or_never_end_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fifo(&path("fifo"));
    symlink("loop", path("loop")).unwrap();
    symlink("b", path("a")).unwrap();
    symlink("a", path("b")).unwrap();
    write(folder.path(), "folder/x", b"");
    let huge = fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .open(path("huge"))
        .unwrap();
    huge.set_len(1 << 40).unwrap();
    let root = Root::open(folder.path()).unwrap();
    assert_eq!(why(root.read("fifo")), "it is a FIFO");
    assert_eq!(why(root.read("folder")), "it is a folder");
    for name in ["loop", "a"] {
        assert!(why(root.read(name)).contains("symbolic links"), "{name}");
    }
    assert!(why(root.read("huge")).contains("longer than"));
    assert!(root.stream_end("fifo", 16).is_err());
    // A log may be of any length: its end is what counts.
    write(folder.path(), "log", b"one\ntwo\nthree\n");
    for (most_bytes, expected) in [
        (99, "one\ntwo\nthree\n"),
        (9, "three\n"),
        (8, "three\n"),
        (3, ""),
    ] {
        let mut end = String::new();
        let mut log = root.stream_end("log", most_bytes).unwrap();
        log.read_to_string(&mut end).unwrap();
        assert_eq!(end, expected, "{most_bytes}");
    }
    let mut end = vec![];
    let mut log = root.stream_end("huge", 1 << 20).unwrap();
    log.read_to_end(&mut end).unwrap();
    assert!(end.len() <= 1 << 20);
}

#[test]
fn what_could_not_be_seen_when_it_was_captured_is_not_absent() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "splitlock/refused",
        b"dev/kmsg\tOperation not permitted\nproc/7/fd\tno\nnonsense\n",
    );
    let root = Root::open(folder.path()).unwrap();
    assert_eq!(why(root.read("dev/kmsg")), "Operation not permitted");
    assert_eq!(why(root.has("/dev/kmsg")), "Operation not permitted");
    assert_eq!(why(root.list("proc/7/fd")), "no");
    assert_eq!(root.read("proc/cpuinfo"), Observed::Absent);
}

/// The same files as an archive.
fn packed(folder: &Path) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut builder = tar::Builder::new(file.reopen().unwrap());
    builder.follow_symlinks(false);
    builder.append_dir_all(".", folder).unwrap();
    builder.finish().unwrap();
    file
}

#[test]
fn an_archive_is_as_good_as_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "proc/7/comm", b"seven\n");
    write(folder.path(), "proc/cmdline", b"quiet\n");
    write(folder.path(), "usr/lib/os-release", b"ID=x\n");
    write(folder.path(), "etc/x", b"");
    write(folder.path(), "splitlock/refused", b"dev/kmsg\tno\n");
    symlink(
        "../usr/lib/os-release",
        folder.path().join("etc/os-release"),
    )
    .unwrap();
    symlink("anon_inode:kvm-vm", folder.path().join("proc/7/3")).unwrap();
    symlink("loop", folder.path().join("loop")).unwrap();
    let archive = packed(folder.path());
    for path in [folder.path(), archive.path()] {
        let root = Root::open(path).unwrap();
        assert!(!root.is_live());
        assert_eq!(root.text("proc/7/comm"), Observed::Is("seven\n".into()));
        assert_eq!(root.text("/proc/cmdline"), Observed::Is("quiet\n".into()));
        assert_eq!(root.text("etc/os-release"), Observed::Is("ID=x\n".into()));
        assert_eq!(
            root.list("proc"),
            Observed::Is(vec!["7".into(), "cmdline".into()])
        );
        assert_eq!(root.list("nothing"), Observed::Absent);
        assert_eq!(
            root.link("proc/7/3"),
            Observed::Is("anon_inode:kvm-vm".into())
        );
        assert_eq!(root.has("etc/x"), Observed::Is(()));
        assert_eq!(root.has("etc/y"), Observed::Absent);
        assert_eq!(why(root.read("dev/kmsg")), "no");
        why(root.read("loop"));
        why(root.read("proc"));
    }
}

#[test]
fn what_is_no_machine_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "text", [b'x'; 1000]);
    write(folder.path(), "empty", b"");
    fifo(&folder.path().join("fifo"));
    for name in ["text", "fifo", "missing"] {
        assert!(Root::open(&folder.path().join(name)).is_err(), "{name}");
    }
    // An archive without files: a machine of which nothing was to be seen.
    assert!(Root::open(&folder.path().join("empty")).is_ok());
}

#[test]
fn an_archive_that_unpacks_to_too_much_is_not_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(MOST_BYTES + 1);
    header.set_mode(0o644);
    let file = fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .open(folder.path().join("big.tar"))
        .unwrap();
    let mut builder = tar::Builder::new(file);
    let zeroes = std::io::repeat(0).take(MOST_BYTES + 1);
    builder
        .append_data(&mut header, "proc/cpuinfo", zeroes)
        .unwrap();
    builder.finish().unwrap();
    let root = Root::open(&folder.path().join("big.tar")).unwrap();
    assert_eq!(why(root.read("proc/cpuinfo")), "it is too long");
}

#[test]
fn this_machine_is_live() {
    let root = Root::live().unwrap();
    assert!(root.is_live());
    assert!(Root::open(Path::new("/usr/..")).unwrap().is_live());
    let release = root.text("proc/sys/kernel/osrelease");
    assert!(release.known().is_some());
    let pid = std::process::id().to_string();
    let processes = root.list("proc");
    let mut names = processes.known().unwrap().iter();
    assert!(names.any(|name| *name == *pid));
    assert_eq!(root.text("proc/999999999/comm"), Observed::Absent);
    // A device is not even opened.
    assert_eq!(why(root.read("dev/zero")), "it is a device");
}

/// Folders are there too: whoever unpacks a capture must not find a file in the place of one.
#[test]
fn a_capture_can_be_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "proc/1/environ", b"A=B\0");
    let root = Root::open(folder.path()).unwrap();
    assert_eq!(root.has("proc/1"), Observed::Is(()));
    assert!(matches!(root.read("proc/1/environ"), Observed::Is(_)));
    let history = History::of_machine(&root, |_| ());
    let mut bytes = vec![];
    let capture = Capture::of(root, &history, &LogCopy::default(), &[]);
    capture.write_to(&mut bytes).unwrap();
    let to = tempfile::tempdir().unwrap();
    tar::Archive::new(&bytes[..]).unpack(to.path()).unwrap();
    assert!(to.path().join("proc/1/environ").is_file());
}

/// Each folder on the way to a file takes memory: of a path with very many, more than there is.
#[test]
fn an_archive_of_endless_paths_is_harmless() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut builder = tar::Builder::new(file.reopen().unwrap());
    let append = |builder: &mut tar::Builder<_>, path: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        builder.append_data(&mut header, path, &b""[..]).unwrap();
    };
    append(&mut builder, &"a/".repeat(20_000));
    append(&mut builder, "proc/cmdline");
    builder.finish().unwrap();
    let root = Root::open(file.path()).unwrap();
    assert_eq!(root.list("a"), Observed::Absent);
    assert_eq!(root.text("proc/cmdline"), Observed::Is(String::new()));
}

/// To whoever reads the name of another process's root, it is `/` as well.
#[test]
fn the_root_of_a_container_is_not_this_machines() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "etc/x", b"inside");
    symlink("/etc/x", folder.path().join("link")).unwrap();
    // A process that waits with its root there, as in a container, if that is allowed here.
    let script = "mount --bind \"$1\" \"$1\" && cd \"$1\" && mkdir old && pivot_root . old && echo ready && read line";
    let child = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(folder.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        return eprintln!("skipped: there is no unshare");
    };
    let mut ready = [0; 5];
    let is_ready = child.stdout.as_mut().unwrap().read_exact(&mut ready);
    if is_ready.is_err() {
        child.wait().unwrap();
        return eprintln!("skipped: mounts are not allowed here");
    }
    let root = Root::open(Path::new(&format!("/proc/{}/root", child.id()))).unwrap();
    let (is_live, text) = (root.is_live(), root.text("link"));
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(!is_live);
    assert_eq!(text, Observed::Is("inside".into()));
}
