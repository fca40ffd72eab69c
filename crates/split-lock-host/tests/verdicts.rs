//! Machines for every condition: what is said of it, what can be done, and what must not be advised.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use split_lock_host::{
    Answer, Basis, Capture, Condition, Cost, Facts, Fix, FixLocation, History, LogCopy,
    LogOnlyReason, NotApplicableReason, OffReason, Root, Verdict,
};
use split_lock_model::time::Nanos;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn of(fixture: &str) -> Verdict {
    judged(&Root::open(&fixtures().join(fixture)).unwrap())
}

fn judged(root: &Root) -> Verdict {
    let facts = Facts::read(root);
    let history = History::of_machine(root, |_| ());
    Verdict::of(root, &facts, &history)
}

/// Everything that would be typed.
fn commands(verdict: &Verdict) -> String {
    let steps = verdict.fixes.iter().flat_map(|fix| &fix.steps);
    steps.map(|step| format!("{}\n", step.command)).collect()
}

const OFF: &str = "split_lock_detect=off";
const SYSCTL: &str = "kernel.split_lock_mitigate=0";

/// A machine, and what has to be said of it.
struct Row {
    fixture: &'static str,
    condition: Condition,
    basis: Basis,
    answer: Answer,
    /// What has to be among the commands, the first of them in the first fix.
    advice: &'static [&'static str],
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { fixture: "tiger-lake-6.6", condition: Condition::Livelock, basis: Basis::BootLine, answer: Answer::Found,
          advice: &[SYSCTL, "/etc/sysctl.d/60-split-lock.conf", "loader/entries", OFF] },
    Row { fixture: "kernel-split-lock", condition: Condition::KernelSplitLock, basis: Basis::Traps, answer: Answer::Found,
          advice: &["splitlock explain -", OFF] },
    Row { fixture: "tiger-lake-rolled-log", condition: Condition::Livelock, basis: Basis::Settings, answer: Answer::Found,
          advice: &[SYSCTL, OFF] },
    Row { fixture: "zen-2", condition: Condition::NotApplicable { because: NotApplicableReason::Cpu }, basis: Basis::Settings,
          answer: Answer::Fine, advice: &[] },
    Row { fixture: "zen-5-6.13", condition: Condition::LogOnly { because: LogOnlyReason::BusLocks }, basis: Basis::BootLine,
          answer: Answer::Fine, advice: &[OFF, "limine-update"] },
    Row { fixture: "zen-5-6.12", condition: Condition::NotApplicable { because: NotApplicableReason::KernelBeforeBusLocks },
          basis: Basis::Settings, answer: Answer::Fine, advice: &[] },
    Row { fixture: "sapphire-rapids", condition: Condition::Livelock, basis: Basis::BootLine, answer: Answer::Found,
          advice: &[SYSCTL, "split_lock_detect=ratelimit:100", "update-grub", OFF] },
    Row { fixture: "sapphire-rapids-ratelimit", condition: Condition::Slowdown { per_second: Some(100) },
          basis: Basis::BootLine, answer: Answer::Found, advice: &["bus-lock-ratelimit", OFF] },
    Row { fixture: "tiger-lake-ratelimit", condition: Condition::Off { because: OffReason::RateLimitWithoutBusLocks },
          basis: Basis::Settings, answer: Answer::Fine, advice: &["take split_lock_detect=ratelimit:100 out"] },
    Row { fixture: "guest", condition: Condition::HostDecides, basis: Basis::Settings, answer: Answer::CannotSay,
          advice: &["splitlock doctor"] },
    Row { fixture: "guest-bus-lock", condition: Condition::HostDecides, basis: Basis::BootLine,
          answer: Answer::CannotSay, advice: &["splitlock doctor"] },
    Row { fixture: "guest-trapped", condition: Condition::HostTraps, basis: Basis::Traps, answer: Answer::Found,
          advice: &[] },
    Row { fixture: "guest-amd", condition: Condition::NotApplicable { because: NotApplicableReason::Cpu }, basis: Basis::Settings,
          answer: Answer::Fine, advice: &[] },
    Row { fixture: "linux-5.15", condition: Condition::LogOnly { because: LogOnlyReason::Before519 }, basis: Basis::Release,
          answer: Answer::Fine, advice: &[] },
    Row { fixture: "linux-5.19", condition: Condition::Livelock, basis: Basis::Release, answer: Answer::Found,
          advice: &["boot.kernelParams", "nixos-rebuild"] },
    Row { fixture: "mitigate-0", condition: Condition::LogOnly { because: LogOnlyReason::NotMitigated },
          basis: Basis::BootLine, answer: Answer::Fine, advice: &[] },
    Row { fixture: "off", condition: Condition::Off { because: OffReason::Parameter }, basis: Basis::BootLine,
          answer: Answer::Fine, advice: &[] },
    Row { fixture: "off-7.1", condition: Condition::Off { because: OffReason::Parameter }, basis: Basis::Settings,
          answer: Answer::Fine, advice: &[] },
    Row { fixture: "msr-access-failed", condition: Condition::Off { because: OffReason::MsrAccessFailed },
          basis: Basis::BootLine, answer: Answer::Fine, advice: &[] },
    Row { fixture: "fatal", condition: Condition::Fatal, basis: Basis::BootLine, answer: Answer::Found,
          advice: &[r"sed -Ei 's/ *\bsplit_lock_detect=fatal($|[^[:alnum:]:])/\1/g' /etc/default/grub", "update-grub"] },
    Row { fixture: "rootless-container", condition: Condition::Livelock, basis: Basis::Settings, answer: Answer::Found,
          advice: &[SYSCTL, OFF] },
    Row { fixture: "not-compiled-in", condition: Condition::NotCompiledIn, basis: Basis::Settings, answer: Answer::Fine,
          advice: &[] },
    Row { fixture: "off-boot-line", condition: Condition::Off { because: OffReason::BootLine }, basis: Basis::BootLine,
          answer: Answer::Fine, advice: &[] },
    Row { fixture: "linux-5.4", condition: Condition::NotApplicable { because: NotApplicableReason::KernelBefore57 },
          basis: Basis::Settings, answer: Answer::Fine, advice: &[] },
    Row { fixture: "nothing-to-see", condition: Condition::Unknown, basis: Basis::Nothing, answer: Answer::CannotSay,
          advice: &[] },
];

#[test]
fn each_machine_gets_its_verdict() {
    for row in ROWS {
        let verdict = of(row.fixture);
        assert_eq!(
            verdict.condition, row.condition,
            "{}: {verdict:#?}",
            row.fixture
        );
        assert_eq!(verdict.basis, row.basis, "{}: {verdict:#?}", row.fixture);
        assert_eq!(verdict.answer(), row.answer, "{}", row.fixture);
        let commands = commands(&verdict);
        for advice in row.advice {
            assert!(
                commands.contains(advice),
                "{}: {advice}: {commands}",
                row.fixture
            );
        }
        if let Some(first) = row.advice.first() {
            // What needs neither root nor anything to be given up is before it.
            let by_run = |fix: &&Fix| fix.steps[0].command.starts_with("splitlock run");
            let first_fix = verdict.fixes.iter().find(|fix| !by_run(fix)).unwrap();
            let first_fix = &first_fix.steps[0].command;
            assert!(first_fix.contains(first), "{}: {first_fix}", row.fixture);
        } else {
            assert_eq!(commands, "", "{}", row.fixture);
        }
    }
}

/// The machine as whoever gets its capture sees it.
fn captured(root: Root, is_redacted: bool) -> (tempfile::NamedTempFile, Root) {
    judged(&root);
    let mut log = LogCopy::default();
    let history = History::of_machine(&root, |record| log.add(record));
    let mut capture = Capture::of(root, &history, &log, &[]);
    if is_redacted {
        capture.redact();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    capture.write_to(file.as_file()).unwrap();
    let root = Root::open(file.path()).unwrap();
    (file, root)
}

/// Where the log lies is not part of it.
fn without_places(mut verdict: Verdict) -> Verdict {
    for text in verdict.because.iter_mut().chain(&mut verdict.doubts) {
        for place in ["/splitlock/kernel.log", "/var/log/dmesg"] {
            *text = text.replace(place, "LOG");
        }
    }
    verdict
}

#[test]
fn a_capture_gets_the_verdict_of_its_machine() {
    for row in ROWS {
        for is_redacted in [false, true] {
            let root = Root::open(&fixtures().join(row.fixture)).unwrap();
            let (_file, root) = captured(root, is_redacted);
            let verdict = without_places(judged(&root));
            assert_eq!(verdict, without_places(of(row.fixture)), "{}", row.fixture);
        }
    }
    let here = Root::live().unwrap();
    let verdict = judged(&here);
    let (_file, root) = captured(here, true);
    assert_eq!(judged(&root).condition, verdict.condition);
    assert_eq!(judged(&root).basis, verdict.basis);
}

#[test]
fn each_fixture_has_its_row() {
    let entries = std::fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let there: BTreeSet<String> = folders
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name != "pasted" && name != "sent")
        .collect();
    let rows = ROWS.iter().map(|row| row.fixture.to_owned()).collect();
    assert_eq!(there, rows);
}

/// The sysctl is read by #AC in mode `warn` only.
#[test]
fn nothing_is_advised_that_does_nothing_there() {
    for row in ROWS {
        let sleeps = row.condition == Condition::Livelock && row.fixture != "linux-5.19";
        let commands = commands(&of(row.fixture));
        assert_eq!(
            commands.contains("mitigate"),
            sleeps,
            "{}: {commands}",
            row.fixture
        );
        let is_off = matches!(row.condition, Condition::Off { .. });
        assert!(!(is_off && commands.contains(OFF)), "{}", row.fixture);
    }
}

#[test]
fn the_least_fix_says_what_it_gives_up_and_needs_no_reboot() {
    let fixes = of("tiger-lake-6.6").fixes;
    assert!(!fixes[0].needs_reboot && fixes[0].gives_up.is_none());
    assert!(!fixes[1].needs_reboot && fixes[2].needs_reboot);
    assert!(fixes.iter().all(|fix| fix.place == FixLocation::Here));
    let switched = fixes.iter().filter(|fix| !fix.steps.is_empty());
    assert_eq!(switched.filter(|fix| fix.gives_up.is_some()).count(), 2);
    let fixes = of("rootless-container").fixes;
    let mut switched = fixes.iter().filter(|fix| !fix.steps.is_empty());
    assert!(switched.all(|fix| fix.place == FixLocation::HostOfContainer));
}

#[test]
fn the_cost_is_that_of_this_kernel() {
    let limits = |fixture| match of(fixture).cost {
        Some(Cost::Trap {
            never_up_to,
            always_from,
            ..
        }) => (never_up_to, always_from),
        other => panic!("{fixture}: {other:?}"),
    };
    let ms = Nanos::from_millis;
    assert_eq!(limits("tiger-lake-6.6"), (ms(12), ms(16)));
    assert_eq!(limits("sapphire-rapids"), (ms(10), ms(11)));
    // Its tick rate is not known: what holds for all of them.
    assert_eq!(limits("rootless-container"), (ms(10), ms(20)));
    let Some(Cost::RateLimited { sleep, .. }) = of("sapphire-rapids-ratelimit").cost else {
        panic!("no cost");
    };
    assert_eq!((sleep.longer_than, sleep.at_most), (ms(21), ms(22)));
    for fixture in ["zen-2", "off", "guest", "mitigate-0"] {
        assert_eq!(of(fixture).cost, None, "{fixture}");
    }
}

#[test]
fn what_could_not_be_seen_is_said() {
    let container = of("rootless-container");
    assert!(!container.is_history_known);
    assert_eq!(
        container.title(),
        "At risk of livelock; settings known, history unknown"
    );
    assert!(
        container.doubts[0].contains("Operation not permitted"),
        "{container:?}"
    );
    let rolled = of("tiger-lake-rolled-log");
    assert!(rolled.is_history_known);
    assert!(
        rolled.doubts[0].contains("not in the log any more"),
        "{rolled:?}"
    );
    let inert = of("zen-2");
    assert_eq!(inert.title(), "Not applicable");
    assert!(
        inert
            .because
            .iter()
            .any(|reason| reason.contains("is 1, which means nothing here"))
    );
}
