//! `splitlock simulate`, `thresholds` and `policies`

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::{fail, names_in, run, splitlock, succeed};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&succeed(arguments)).unwrap()
}

/// The example of the problem, with further arguments.
fn simulate(kernel: &str, more: &[&str]) -> std::process::Output {
    run(&[&["simulate", "--kernel", kernel][..], more].concat())
}

#[test]
fn a_short_timer_is_a_livelock_and_the_reason_is_given() {
    let output = simulate(
        "6.6,hz=1000",
        &["--timeout", "1ms", "--fail-on", "livelock"],
    );
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8(output.stdout).unwrap();
    assert!(words.starts_with("Livelocked.\n"), "{words}");
    let flowing = words.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "everything between repeats forever",
        "Each time a signal ended the sleep before 11 ticks (11ms) had passed",
        "from 11ms on it always is",
        "kernel.split_lock_mitigate=0 removes the sleep",
        "Where the time went",
        "sleep cut short",
        "core 0 detects ++++",
    ] {
        assert!(flowing.contains(part), "{part}: {words}");
    }
    // Finding it is only a failure if that was asked for.
    let output = simulate("6.6,hz=1000", &["--timeout", "1ms"]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_long_timer_or_no_mitigation_is_none() {
    for (kernel, timeout) in [("6.6,hz=1000", "15ms"), ("6.6,hz=1000,mitigate=0", "1ms")] {
        let arguments = ["--timeout", timeout, "--fail-on", "livelock"];
        let output = simulate(kernel, &arguments);
        assert_eq!(output.status.code(), Some(0), "{kernel}");
        let words = String::from_utf8(output.stdout).unwrap();
        assert!(words.starts_with("Progresses"), "{words}");
        assert!(!words.to_lowercase().contains("livelock"), "{words}");
    }
}

#[test]
fn no_turn_at_all_counts_as_a_livelock_where_nothing_is_proved() {
    let arguments = ["--timeout", "1ms", "--noise", "3ms", "--horizon", "200ms"];
    let words = succeed(&[&["simulate", "--kernel", "6.6,hz=1000"][..], &arguments].concat());
    assert!(words.starts_with("No progress seen."), "{words}");
    let output = simulate(
        "6.6,hz=1000",
        &[&arguments[..], &["--fail-on", "livelock"]].concat(),
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn windows_that_nobody_uses_are_told_from_a_livelock() {
    let arguments = ["--budget", "none", "--work-after-wait", "13ms", "--fail-on"];
    let run = |wanted| simulate("6.12,hz=250", &[&arguments[..], &[wanted]].concat());
    for wanted in ["windows-unused", "livelock"] {
        let output = run(wanted);
        assert_eq!(output.status.code(), Some(1), "{wanted}");
        let words = String::from_utf8(output.stdout).unwrap();
        assert!(words.starts_with("Windows unused: "), "{words}");
        let flowing = words.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "its guest served interrupts",
            "13ms pass before it is back at its instruction, which no window outlasts",
            "unused: interrupts",
            "i its guest serves interrupts",
            "uuuuuu",
        ] {
            assert!(flowing.contains(part), "{part}: {words}");
        }
    }
    let output = simulate(
        "6.12,hz=250",
        &[
            "--budget",
            "none",
            "--preempted-after-wait",
            "7ms",
            "--fail-on",
            "windows-unused",
        ],
    );
    assert_eq!(output.status.code(), Some(0));
    let value = json(&[&["simulate", "--json", "--kernel", "6.12"], &arguments[..4]].concat());
    assert_eq!(value["windows_unused"], true);
    assert_eq!(value["livelocked"], false);
    let traps = &value["report"]["tasks"][0]["traps"];
    assert!(traps["unused"]["interrupts"].as_u64() > Some(0), "{traps}");
    let said = fail(&["simulate", "--user", "--work-after-wait", "1ms"]);
    assert!(said.contains("--work-after-wait"), "{said}");
}

#[test]
fn every_kind_of_scenario_can_be_asked_for() {
    for (arguments, expected) in [
        (
            &["--user", "--timeout", "5ms"][..],
            "timer signal every 5ms",
        ),
        (&["--user", "--budget", "cpu"], "1ms of its CPU time"),
        (&["--budget", "absolute"], "fixed grid of 1ms"),
        (&["--budget", "cpu", "--timeout", "2ms"], "CPU time"),
        (&["--budget", "none"], "no timer interrupts"),
        (
            &["--guest", "sparse:10ms", "--timeout", "40ms"],
            "times slower",
        ),
        (&["--compute", "1ms", "--splits", "0"], "Progresses."),
        (
            &["--threads", "3", "--cpus", "4", "--smt", "2"],
            "core 1 detects",
        ),
        (&["--threads", "40"], "and 24 more threads"),
        (
            &["--timeout", "20ms", "--others", "4"],
            "wait for the semaphore",
        ),
        (&["--migrate", "7ms", "--cpus", "2", "--seed", "5"], "vCPU"),
        (&["--phase", "123us"], "Livelocked."),
        (&["--hardware", "zen-5"], "Progresses."),
        (&["--threads", "9"], "One more thread is not shown"),
    ] {
        let words = succeed(
            &[
                &["simulate", "--kernel", "6.12,hz=250", "--horizon", "2s"][..],
                arguments,
            ]
            .concat(),
        );
        let flowing = words.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flowing.contains(expected), "{arguments:?}: {words}");
    }
}

#[test]
fn a_rate_limit_holds_programs_back_and_not_guests() {
    let limited = [
        "--kernel",
        "6.12,mode=ratelimit:20",
        "--hardware",
        "sapphire-rapids",
    ];
    let turns = |more: &[&str]| {
        let value = json(&[&["simulate", "--json"], &limited[..], more].concat());
        value["report"]["tasks"][0]["turns"].as_u64().unwrap()
    };
    assert!(turns(&["--user", "--timeout", "50ms"]) <= 20 * 11);
    assert!(turns(&[]) > 9_000_000);
}

#[test]
fn without_a_kernel_it_is_this_hosts_and_the_assumption_is_told() {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let words = succeed(&["simulate", "--horizon", "100ms"]);
    for part in [release.trim(), "this host's is taken", "hz="] {
        assert!(words.contains(part), "{part}: {words}");
    }
}

#[test]
fn json_says_the_same() {
    let base = ["simulate", "--kernel", "6.6,hz=1000", "--json", "--timeout"];
    let stuck = json(&[&base[..], &["1ms"]].concat());
    assert_eq!(stuck["schema"], "splitlock-simulation");
    assert_eq!(stuck["kernel"], "6.6,hz=1000");
    assert_eq!(stuck["livelocked"], true);
    assert_eq!(stuck["report"]["tasks"][0]["turns"], 0);
    let moving = json(&[&base[..], &["15ms"]].concat());
    assert_eq!(moving["livelocked"], false);
    // The same seed, the same answer.
    assert_eq!(moving, json(&[&base[..], &["15ms"]].concat()));
}

#[test]
fn mistakes_name_the_field_and_do_not_hang() {
    for (arguments, expected) in [
        (&["--kernel", "6.6,hz=99"][..], "hz:"),
        (&["--kernel", "6.6,mode=ratelimit:1001"], "1 and 1000"),
        (&["--kernel", "5.15,mitigate=0"], "mitigate:"),
        (&["--kernel", "5.4,mode=warn"], "mode:"),
        (&["--kernel", "frob"], "frob"),
        (&["--timeout", "0ms"], "--timeout"),
        (&["--timeout", "-1ms"], "--timeout"),
        (&["--timeout", "400000s"], ""),
        (&["--timeout", "40000000s"], "period:"),
        (&["--split-cost", "0ns"], "split_cost:"),
        (&["--compute", "0ns", "--splits", "0"], "compute:"),
        (
            &["--splits", "4294967295", "--split-cost", "1s"],
            "program:",
        ),
        (&["--guest", "sparse:soon"], "--guest"),
        (&["--guest", "dense"], "sparse:10ms"),
        (&["--guest", "split", "--splits", "2"], "--splits"),
        (&["--threads", "0"], "--threads"),
        (&["--cpus", "0"], "cpus:"),
        (&["--cpus", "99999"], "cpus:"),
        (&["--smt", "2", "--cpus", "1"], "siblings:"),
        (&["--smt", "0"], "siblings:"),
        (&["--smt", "4294967295"], "cpus:"),
        (&["--horizon", "9000000s"], "horizon:"),
        (&["--horizon", "30000s"], "horizon:"),
        (&["--timeout", "1ns"], "horizon:"),
        (&["--threads", "65"], "--threads"),
        (&["--phase", "9000000s"], "tick_phase:"),
        (&["--noise", "0ms"], "--noise"),
        (&["--compare", "15ms"], "--picture"),
        (&["--picture", "a.gif"], ".svg or .png"),
        (&["--json", "--trace", "-"], "same place"),
        (&["--fail-on", "boredom"], "--fail-on"),
    ] {
        if expected.is_empty() {
            succeed(&[&["simulate", "--kernel", "6.6"][..], arguments].concat());
            continue;
        }
        let kernel = if arguments[0] == "--kernel" {
            &[][..]
        } else {
            &["--kernel", "6.6"][..]
        };
        let sentence = fail(&[&["simulate"][..], kernel, arguments].concat());
        assert!(sentence.contains(expected), "{arguments:?}: {sentence}");
    }
    assert!(fail(&["thresholds", "--kernel", "6.6,hz=99"]).contains("hz:"));
    assert!(fail(&["thresholds", "--others", "5000"]).contains("--others"));
    assert!(fail(&["policies", "--kernel", "5.19"]).contains("mitigate:"));
    assert!(fail(&["policies", "--out", "a.gif"]).contains(".svg or .png"));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    for command in ["simulate", "thresholds"] {
        let mut child = splitlock(&[command, "--kernel", "6.6", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut complaints = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut complaints)
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{complaints}");
        assert_eq!(complaints, "");
    }
}

/// What the Chrome trace event format asks of a file, as far as this program uses it.
#[test]
fn a_trace_keeps_to_the_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    for arguments in [
        &[
            "--kernel",
            "6.6,hz=1000",
            "--threads",
            "3",
            "--cpus",
            "2",
            "--timeout",
            "15ms",
        ][..],
        &[
            "--kernel",
            "6.12,hz=300",
            "--others",
            "2",
            "--smt",
            "2",
            "--user",
        ],
    ] {
        let wanted = ["simulate", "--trace", text(&path)];
        succeed(&[&wanted[..], arguments].concat());
        let trace: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(trace["displayTimeUnit"], "ms");
        check_events(trace["traceEvents"].as_array().unwrap());
    }
    assert_eq!(names_in(folder.path()), ["trace.json"]);
}

fn check_events(events: &[Value]) {
    let mut named = vec![];
    let mut spans: BTreeMap<(u64, u64), Vec<(f64, f64)>> = BTreeMap::new();
    for event in events {
        let number = |key: &str| {
            event[key]
                .as_f64()
                .unwrap_or_else(|| panic!("{key}: {event}"))
        };
        let track = (
            event["pid"].as_u64().unwrap(),
            event["tid"].as_u64().unwrap(),
        );
        let name = event["name"].as_str().unwrap();
        match event["ph"].as_str().unwrap() {
            "M" => {
                assert!(["process_name", "thread_name"].contains(&name), "{event}");
                assert!(!event["args"]["name"].as_str().unwrap().is_empty());
                named.push((name, track));
            }
            "X" => {
                assert!(number("ts") >= 0.0 && number("dur") >= 0.0, "{event}");
                let (start, end) = (number("ts"), number("ts") + number("dur"));
                spans.entry(track).or_default().push((start, end));
            }
            "i" => {
                assert!(number("ts") >= 0.0, "{event}");
                assert!(["g", "p", "t"].contains(&event["s"].as_str().unwrap()));
            }
            other => panic!("an event of kind {other}: {event}"),
        }
    }
    assert!(
        spans.len() >= 6,
        "CPUs, cores, threads and the semaphore have tracks"
    );
    for (track, mut spans) in spans {
        for kind in ["process_name", "thread_name"] {
            assert!(named.contains(&(kind, track)), "{track:?} has no {kind}");
        }
        spans.sort_by(|a, b| a.0.total_cmp(&b.0));
        // Either apart or one within the other; a thousandth of a ns is rounding.
        for pair in spans.windows(2) {
            let ((_, first), (second, end)) = (pair[0], pair[1]);
            assert!(
                first <= second + 1e-6 || end <= first + 1e-6,
                "{track:?}: {pair:?}"
            );
        }
    }
}

#[test]
fn pictures_come_out_in_the_form_that_their_name_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let base = [
        "simulate",
        "--kernel",
        "6.6,hz=1000",
        "--compare",
        "15ms",
        "--picture",
    ];
    succeed(&[&base[..], &[text(&at("a.svg"))]].concat());
    succeed(&[&base[..], &[text(&at("a.png"))]].concat());
    let svg = std::fs::read_to_string(at("a.svg")).unwrap();
    for part in [
        "livelocked",
        "asleep",
        "time in ms",
        "core 0 detects",
        "semaphore",
    ] {
        assert!(svg.contains(part), "{part}");
    }
    assert!(std::fs::read(at("a.png")).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn the_documents_show_the_picture_that_their_command_draws() {
    let folder = tempfile::tempdir().unwrap();
    let drawn = folder.path().join("a.svg");
    let base = ["simulate", "--kernel", "6.6,hz=1000", "--timeout", "1ms"];
    succeed(&[&base[..], &["--compare", "15ms", "--picture", text(&drawn)]].concat());
    let figures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/figures");
    let [shown, drawn] = [figures.join("livelock-timeline.svg"), drawn]
        .map(|path| std::fs::read_to_string(path).unwrap());
    assert!(shown == drawn, "draw it again: see docs/figures/README.md");
}

/// HZ; era; T; sleep over and up to; window over and up to; cycle; share off; never up to; always
/// from. Times in ms.
type Facts = (u64, bool, u64, [f64; 5], f64, f64, f64);

/// As read from the kernel's sources by people, and not by the program.
const FACTS: [Facts; 8] = [
    (
        100,
        true,
        2,
        [20.0, 30.0, 20.0, 30.0, 60.0],
        0.5,
        10.0,
        20.0,
    ),
    (
        100,
        false,
        1,
        [10.0, 20.0, 20.0, 30.0, 50.0],
        0.6,
        0.0,
        10.0,
    ),
    (
        250,
        true,
        4,
        [16.0, 20.0, 8.0, 12.0, 32.0],
        0.375,
        12.0,
        16.0,
    ),
    (
        250,
        false,
        3,
        [12.0, 16.0, 8.0, 12.0, 28.0],
        0.429,
        8.0,
        12.0,
    ),
    (
        300,
        true,
        4,
        [13.3, 16.7, 6.7, 10.0, 26.7],
        0.375,
        10.0,
        13.3,
    ),
    (
        300,
        false,
        3,
        [10.0, 13.3, 6.7, 10.0, 23.3],
        0.429,
        6.7,
        10.0,
    ),
    (
        1000,
        true,
        11,
        [11.0, 12.0, 2.0, 3.0, 15.0],
        0.2,
        10.0,
        11.0,
    ),
    (
        1000,
        false,
        10,
        [10.0, 11.0, 2.0, 3.0, 14.0],
        0.214,
        9.0,
        10.0,
    ),
];

#[test]
fn thresholds_agree_with_what_is_known() {
    let value = json(&["thresholds", "--json"]);
    let rows = value["rows"].as_array().unwrap();
    assert_eq!(rows.len(), FACTS.len());
    for (hz, old, ticks, times, share, never, always) in FACTS {
        let kernel = format!("{},hz={hz}", if old { "6.11" } else { "6.12" });
        let row = rows
            .iter()
            .find(|row| row["kernel"] == *kernel)
            .expect(&kernel);
        let near = |key: &str, ms: f64| {
            let found = row[key].as_f64().unwrap_or_else(|| panic!("{key}: {row}")) / 1e6;
            assert!(
                (found - ms).abs() < 0.05,
                "{kernel} {key}: {found} and {ms}"
            );
        };
        assert_eq!(row["sleep_ticks"], ticks, "{kernel}");
        near("sleep_longer_than", times[0]);
        near("sleep_at_most", times[1]);
        near("window_longer_than", times[2]);
        near("window_at_most", times[3]);
        near("cycle", times[4]);
        near("never_up_to", never);
        near("always_from", always);
        assert!(
            (row["share_off"].as_f64().unwrap() - share).abs() < 0.0005,
            "{kernel}"
        );
    }
}

#[test]
fn thresholds_of_one_kernel_and_of_one_that_has_none() {
    let table = succeed(&["thresholds", "--kernel", "debian-12", "--others", "6"]);
    assert!(table.contains("(16,20]") && table.contains("72"), "{table}");
    let none = succeed(&["thresholds", "--kernel", "6.6,mitigate=0"]);
    assert!(none.contains("There are no thresholds"), "{none}");
    let value = json(&["thresholds", "--kernel", "5.15", "--json"]);
    assert_eq!(value["rows"], Value::Array(vec![]));
    assert!(value["why_none"].as_str().unwrap().contains("traps once"));
    let alone = json(&["thresholds", "--others", "0", "--json"]);
    assert_eq!(alone["rows"][0]["contended"], Value::Array(vec![]));
}

#[test]
fn policies_are_compared_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policies.svg");
    let table = succeed(&["policies", "--out", text(&path)]);
    let svg = std::fs::read_to_string(&path).unwrap();
    for policy in [
        "upstream",
        "mitigate=0",
        "proceed",
        "uninterruptible",
        "killable",
        "debt",
        "sentence",
    ] {
        assert!(table.contains(policy) && svg.contains(policy), "{policy}");
    }
    for row in ["8/49", "33/49", "47.88 ms", "2.27x"] {
        assert!(table.contains(row), "{row}: {table}");
    }
    let value = json(&["policies", "--kernel", "6.15,hz=1000", "--json"]);
    assert_eq!(value["policies"].as_array().unwrap().len(), 7);
    assert_eq!(value["policies"][0]["policy"], "upstream");
}
