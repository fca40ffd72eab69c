//! `splitlock watch`, as far as it goes without split locks. What it sees of them is held against a real kernel in the lab.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{complaint, fail, in_mount_namespace, signal};

/// Runs a script in a mount namespace of its own, so that this machine stays as it is; `$splitlock` is the program.
fn in_own_namespace(script: &str) -> Option<Output> {
    in_mount_namespace(&format!("export splitlock=\"$0\"; {script}"))
}

const MOUNT: &str = "test -e /sys/kernel/tracing/events || mount -t tracefs tracefs /sys/kernel/tracing || exit 99; ";

/// The same with tracefs, on a kernel that can be watched.
fn with_tracefs(script: &str) -> Option<Output> {
    static WHY_NOT: OnceLock<Option<String>> = OnceLock::new();
    let why_not = WHY_NOT.get_or_init(|| {
        let trial = format!("{MOUNT}exec $splitlock watch --duration 1ms");
        let trial = in_own_namespace(&trial)?;
        let said = String::from_utf8_lossy(&trial.stderr).into_owned();
        (!trial.status.success()).then_some(said)
    });
    if let Some(why) = why_not {
        eprintln!("skipped: this kernel cannot be watched: {why}");
        return None;
    }
    in_own_namespace(&format!("{MOUNT}{script}"))
}

fn lines(output: &Output) -> Vec<serde_json::Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn nonsense_is_refused() {
    for (arguments, mention) in [
        (&["--listen", "here"][..], "neither a port"),
        (&["--interval", "0ms"], "--interval"),
        (&["--buffer-kib", "1"], "--buffer-kib"),
        (&["--fail-on", "boredom"], "--fail-on"),
    ] {
        let said = fail(&[&["watch"], arguments].concat());
        assert!(said.contains(mention), "{said}");
    }
}

#[test]
fn without_tracefs_it_says_what_to_mount() {
    let script = "mount -t tmpfs none /sys/kernel/tracing; mount -t tmpfs none /sys/kernel/debug; \
                  exec $splitlock watch --duration 1s";
    let Some(output) = in_own_namespace(script) else {
        return;
    };
    let said = complaint(&output);
    assert!(said.contains("mount -t tracefs"), "{said}");
    let script = "mount -t tmpfs none /sys/kernel; exec $splitlock watch --duration 1s";
    let said = complaint(&in_own_namespace(script).unwrap());
    assert!(said.contains("no tracing"), "{said}");
}

#[test]
fn a_kernel_without_a_handler_is_not_watched_and_probes_need_no_list_of_symbols() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let kallsyms = empty.path().display();
    let watch = |script: &str| {
        let mount = format!("mount --bind {kallsyms} /proc/kallsyms");
        with_tracefs(&format!("{mount}; {script}"))
    };
    let Some(output) = watch("exec $splitlock watch --no-probes --duration 1s") else {
        return;
    };
    let said = complaint(&output);
    assert!(said.contains("there is nothing to watch"), "{said}");
    // The kernel knows where its functions lie.
    let has_probes = "test -w /sys/kernel/tracing/kprobe_events || exit 98";
    let watch_with_probes = "exec $splitlock watch --json --duration 100ms";
    let output = watch(&format!("{has_probes}; {watch_with_probes}")).unwrap();
    if output.status.code() == Some(98) {
        eprintln!("skipped: this kernel has no probes");
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(lines(&output)[0]["complete"], true);
}

#[test]
fn an_ordinary_user_is_told_who_may() {
    let script = "exec setpriv --reuid 65534 --clear-groups $splitlock watch --duration 1s";
    let Some(output) = with_tracefs(script) else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("cannot execute") || said.contains("failed to execute") {
        eprintln!("skipped: the program is where an ordinary user cannot run it: {said}");
        return;
    }
    let said = complaint(&output);
    assert!(
        said.contains("not permitted to") && said.contains("as root"),
        "{said}"
    );
}

#[test]
fn json_begins_and_ends_and_counts_the_time() {
    let script = "exec $splitlock watch --json --interval 100ms --duration 450ms";
    let Some(output) = with_tracefs(script) else {
        return;
    };
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let lines = lines(&output);
    let names: Vec<_> = lines
        .iter()
        .map(|line| line["event"].as_str().unwrap())
        .collect();
    assert_eq!((names[0], names[1]), ("start", "sample"));
    assert_eq!(names.last(), Some(&"end"));
    assert!(names.len() >= 3, "{names:?}");
    assert_eq!(lines[0]["schema_version"], 1);
    assert_eq!(lines[0]["sources"][0], "msr:write_msr");
    let end = lines.last().unwrap();
    assert!(end["wall_ns"].as_u64().unwrap() >= 450_000_000);
    assert_eq!(end["lost_events"], 0);
}

#[test]
fn when_nobody_reads_any_more_it_ends() {
    let script =
        "{ $splitlock watch --json --interval 50ms; echo code $? >&2; } | head -n 2 >/dev/null";
    let Some(output) = with_tracefs(script) else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.ends_with("code 0\n"), "{said}");
}

/// A watch that goes on until it is told to end.
struct Running(Child);

impl Running {
    fn start(arguments: &str) -> Option<Self> {
        with_tracefs("exec $splitlock watch --json --duration 1ms")?;
        let script = format!("{MOUNT}exec $splitlock watch {arguments}");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]);
        command.env("splitlock", assert_cmd::cargo::cargo_bin!("splitlock"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Some(Self(command.spawn().unwrap()))
    }

    /// SIGTERM does what Ctrl-C does, and is not ignored by what a shell runs in the background.
    fn stop(&self) {
        signal(&self.0, Signal::TERM);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended long ago, unless the test has failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read_until(mut from: impl Read, end: &str) -> String {
    let (mut said, mut byte) = (String::new(), [0]);
    while !said.contains(end) {
        assert_eq!(from.read(&mut byte).unwrap(), 1, "{said}");
        said.push(byte[0].into());
    }
    said
}

#[test]
fn who_ends_it_gets_everything_that_was_seen() {
    for (arguments, code) in [("--json", 0), ("--json --duration 3600s", 130)] {
        let Some(mut running) = Running::start(arguments) else {
            return;
        };
        let mut stdout = running.0.stdout.take().unwrap();
        let mut said = read_until(&mut stdout, "\"sample\"");
        running.stop();
        stdout.read_to_string(&mut said).unwrap();
        assert_eq!(running.0.wait().unwrap().code(), Some(code));
        let last = said.lines().last().unwrap();
        assert!(last.contains("\"event\":\"end\""), "{said}");
    }
}

#[test]
fn metrics_are_served_on_loopback() {
    let Some(mut running) = Running::start("--listen 0") else {
        return;
    };
    let said = read_until(running.0.stderr.take().unwrap(), "/metrics\n");
    let address = said.rsplit("http://").next().unwrap();
    let address = address.strip_suffix("/metrics\n").unwrap();
    assert!(address.starts_with("127.0.0.1:"), "{said}");
    let metrics = loop {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        // Until the first sample there is nothing.
        if !answer.ends_with("\r\n\r\n") {
            break answer;
        }
    };
    assert!(
        metrics.contains("splitlock_watch_lost_events_total 0\n"),
        "{metrics}"
    );
    running.stop();
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
}

/// What a terminal gets.
fn on_terminal(stty: &str, arguments: &str) -> Option<String> {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("skipped: there is no `script` here");
        return None;
    }
    let script = format!(
        "exec script -qefc 'stty {stty}; exec $splitlock watch {arguments}' /dev/null </dev/null"
    );
    let output = with_tracefs(&script)?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_terminal_is_drawn_on_and_restored() {
    let (enter, leave) = ("\u{1b}[?1049h", "\u{1b}[?1049l");
    for size in ["rows 24 cols 80", "rows 2 cols 10", "rows 1 cols 1"] {
        let Some(shown) = on_terminal(size, "--interval 50ms --duration 300ms") else {
            return;
        };
        assert_eq!(
            (shown.matches(enter).count(), shown.matches(leave).count()),
            (1, 1),
            "{shown}"
        );
        let (on_screen, after) = shown.split_once(leave).unwrap();
        assert!(on_screen.matches("\u{1b}[H").count() >= 1, "{shown}");
        assert!(on_screen.contains("\u{1b}[?25l") && on_screen.ends_with("\u{1b}[?25h"));
        // What stays is the last table.
        assert!(
            !after.contains("\u{1b}[H") && !after.trim().is_empty(),
            "{after}"
        );
    }
}

#[test]
fn a_terminal_is_restored_when_it_is_killed() {
    // Also says whether there is a `script`, and a kernel that can be watched.
    if on_terminal("rows 24 cols 80", "--duration 1ms").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let shown = || {
        let bytes = std::fs::read(&log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let script = format!(
        "{MOUNT}exec script -qefc 'echo child:$$:; exec $splitlock watch' {} </dev/null",
        log.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]);
    command.env("splitlock", assert_cmd::cargo::cargo_bin!("splitlock"));
    let mut running = Running(command.stdout(Stdio::null()).spawn().unwrap());
    while !shown().contains("\u{1b}[H") {
        assert!(running.0.try_wait().unwrap().is_none(), "{}", shown());
        std::thread::sleep(Duration::from_millis(20));
    }
    let text = shown();
    // The first one is in the command, which `script` notes as well.
    let (_, pid) = text.rsplit_once("child:").unwrap();
    let (pid, _) = pid.split_once(':').unwrap();
    kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), Signal::TERM).unwrap();
    running.0.wait().unwrap();
    assert!(shown().contains("\u{1b}[?25h\u{1b}[?1049l"), "{}", shown());
}

#[test]
fn the_documents_know_every_option() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let doc = std::fs::read_to_string(root.join("docs/watch.md")).unwrap();
    let help = super::succeed(&["watch", "--help"]);
    let options = help
        .split_whitespace()
        .filter(|word| word.starts_with("--"));
    for option in options.map(|option| option.trim_end_matches([',', '.'])) {
        if !["--help", "--version", "--json", "--interval"].contains(&option) {
            assert!(doc.contains(option), "{option}");
        }
    }
}
