//! Timers that could livelock a machine.

use split_lock_host::Observed;
use split_lock_host::attribution::{Evidence, Machines, Strength, TimerSuspect, TimerSuspects};
use split_lock_model::analysis::{PassPrediction, Thresholds};

use crate::Host;

/// Up to 8 ms a split lock never gets past, from 12 ms on it always does.
fn suspects(host: &Host) -> TimerSuspects {
    let thresholds = Thresholds::of(&"6.12,hz=250".parse().unwrap()).unwrap();
    let root = host.root();
    TimerSuspects::read(&root, &Machines::read(&root).machines, &thresholds)
}

fn told(host: &Host) -> Vec<(Evidence, Strength)> {
    let told = |suspect: TimerSuspect| (suspect.evidence, suspect.strength);
    suspects(host).suspects.into_iter().map(told).collect()
}

/// One machine with two vCPUs.
fn host() -> Host {
    let host = Host::new();
    host.process(
        100,
        "VBoxHeadless",
        &["VBoxHeadless", "--startvm", "win"],
        "0::/\n",
    );
    host.thread(100, 101, "EMT-0");
    host.thread(100, 102, "EMT-1");
    host
}

fn timer(notify: &str, clock: i32) -> String {
    format!("ID: 0\nsignal: 34/0000000000000000\nnotify: {notify}\nClockID: {clock}\n")
}

/// Gives a process a timerfd.
fn timerfd(host: &Host, pid: u32, file: u32, interval: &str) {
    host.link(&format!("proc/{pid}/fd/{file}"), "anon_inode:[timerfd]");
    let info = format!("it_interval: {interval}\n");
    host.file(&format!("proc/{pid}/fdinfo/{file}"), info);
}

#[test]
fn a_measured_period_is_the_strongest_evidence() {
    let host = host();
    host.file("proc/100/timers", timer("signal/tid.101", 1));
    for (exits, period_ns, outlook) in [
        (80, 1_000_000, Some(PassPrediction::Never)),
        (8, 10_000_000, None),
    ] {
        // Another process's do not matter.
        let counted = format!("40000000\n999 1 40\n100 2 {exits}\n");
        host.file("splitlock/signal-exits", counted);
        let found = suspects(&host).suspects;
        let expected = Evidence::SignalExits {
            vcpus: 2,
            exits,
            over_ns: 40_000_000,
            period_ns,
        };
        assert_eq!(found[0].evidence, expected);
        assert_eq!(found[0].strength, Strength::Measured);
        assert_eq!(found[0].machine.as_deref(), Some("win"));
        let depends = matches!(found[0].outlook, Some(PassPrediction::DependsOnPhase(_)));
        assert!(depends || found[0].outlook == outlook);
        // And this is why.
        assert_eq!(found[1].strength, Strength::PeriodUnknown);
    }
}

#[test]
fn a_machine_without_signal_exits_is_no_suspect() {
    let host = host();
    host.file(
        "proc/100/timers",
        timer("signal/tid.101", 1) + &timer("signal/pid.100", 1),
    );
    timerfd(&host, 100, 7, "(0, 1000000)");
    for exits in [0, 1, 3] {
        let counted = format!("40000000\n100 2 {exits}\n");
        host.file("splitlock/signal-exits", counted);
        assert_eq!(told(&host), [], "{exits}");
    }
    // If they are all of one vCPU, its period is 8 ms.
    host.file("splitlock/signal-exits", "40000000\n100 2 5\n");
    assert_eq!(told(&host).len(), 3);
}

#[test]
fn a_timer_that_signals_a_vcpu_is_one_whose_period_is_unknown() {
    let host = host();
    // Twice the same; CPU time does not pass for who is punished; 103 is no vCPU.
    let timers = [
        timer("signal/tid.101", 1),
        timer("signal/tid.101", 1),
        timer("signal/tid.102", -6),
        timer("none/tid.102", 1),
        timer("signal/tid.103", 1),
    ];
    host.file("proc/100/timers", timers.concat());
    let expected = Evidence::TimerOfVcpu {
        tid: 101,
        signal: 34,
    };
    assert_eq!(told(&host), [(expected, Strength::PeriodUnknown)]);
    assert_eq!(suspects(&host).suspects[0].outlook, None);
    assert_eq!(suspects(&host).measured, Observed::Absent);
}

#[test]
fn a_process_that_is_its_own_vcpu_is_signalled_by_any_timer() {
    let host = Host::new();
    host.process(200, "vmm", &["./vmm"], "0::/\n");
    host.link("proc/200/fd/4", "anon_inode:kvm-vm");
    host.file("proc/200/timers", timer("signal/pid.200", 1));
    host.file("proc/200/status", "Tgid:\t200\nThreads:\t1\n");
    let expected = Evidence::TimerOfVcpu {
        tid: 200,
        signal: 34,
    };
    assert_eq!(told(&host), [(expected, Strength::PeriodUnknown)]);
    // With more threads nobody knows which one it interrupts.
    host.thread(200, 201, "x");
    host.file("proc/200/status", "Tgid:\t200\nThreads:\t2\n");
    let expected = Evidence::TimerOfProcess { signal: 34 };
    assert_eq!(told(&host), [(expected, Strength::Weak)]);
}

#[test]
fn a_short_timerfd_is_no_more_than_a_hint() {
    let host = host();
    for (file, interval) in [(7, "(0, 0)"), (8, "(0, 1000000)"), (9, "(1, 0)")] {
        timerfd(&host, 100, file, interval);
    }
    let expected = Evidence::Timerfd {
        period_ns: 1_000_000,
    };
    assert_eq!(told(&host), [(expected, Strength::Hint)]);
    host.file("proc/100/fdinfo/8", "it_interval: (0, 20000000)\n");
    assert_eq!(told(&host), []);
}

#[test]
fn a_program_that_runs_no_machine_is_no_suspect() {
    let host = Host::new();
    host.process(300, "game", &["./game"], "0::/\n");
    host.file("proc/300/timers", timer("signal/tid.300", 1));
    timerfd(&host, 300, 7, "(0, 1000000)");
    assert_eq!(told(&host), []);
}

#[test]
fn what_may_not_be_looked_at_is_counted() {
    let host = host();
    host.file(
        "splitlock/refused",
        "proc/100/fd\tPermission denied\nsplitlock/signal-exits\tPermission denied\n",
    );
    let found = suspects(&host);
    assert_eq!((found.suspects.len(), found.not_looked_into), (0, 1));
    assert_eq!(found.measured.is_there(), None);
}
