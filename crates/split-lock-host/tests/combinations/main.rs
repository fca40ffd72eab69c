//! Machines that no fixture shows: what they say may not fit together, and what is advised has to do something there.

use proptest::prelude::*;
use split_lock_host::{
    Answer, Capture, Condition, Cost, Facts, History, LogCopy, LogOnlyReason, Mode,
    NotApplicableReason, OffReason, Root, Verdict,
};

#[path = "../common/files.rs"]
mod files;
mod kernels;
mod machine;

use machine::Machine;

fn judged(root: &Root) -> Verdict {
    let facts = Facts::read(root);
    let history = History::of_machine(root, |_| ());
    Verdict::of(root, &facts, &history)
}

const SPLIT: &str = "fpu split_lock_detect";
const BUS: &str = "fpu bus_lock_detect";
const WARNS: &str = "x86/split lock detection: #AC: crashing the kernel on kernel split_locks and warning on user-space \
                     split_locks";
const WARNED: &str = "x86/split lock detection: warning about user-space split_locks";
const FAILED: &str = "x86/split lock detection: MSR access failed: Disabled";
const DISABLED: &str = "x86/split lock detection: disabled";
const TRAP: &str = "x86/split lock detection: #AC: x/7 took a split_lock trap at address: 0x401000";
const BUS_TRAP: &str =
    "x86/split lock detection: #DB: x/7 took a bus_lock trap at address: 0x401000";

fn says(verdict: &Verdict, part: &str) -> bool {
    let mut texts = verdict.because.iter().chain(&verdict.doubts);
    texts.any(|text| text.contains(part))
}

/// Before 5.13 a kernel said that it warns, and then tried whether it can.
#[test]
fn a_refused_register_takes_back_what_was_said_of_the_mode() {
    let failed = Condition::Off {
        because: OffReason::MsrAccessFailed,
    };
    let machine = Machine::intel("5.10.0", "fpu").with_log(&[WARNED, FAILED]);
    assert_eq!(machine.condition(), failed);
}

#[test]
fn a_log_of_another_machine_does_not_count() {
    let cannot = Condition::NotApplicable {
        because: NotApplicableReason::Cpu,
    };
    let amd = Machine::amd("6.8.0", "fpu").with_mitigate("1");
    // A kernel that detects split locks shows the flag.
    let verdict = amd.clone().with_log(&[WARNS]).verdict();
    assert_eq!(verdict.condition, cannot, "{verdict:?}");
    assert!(verdict.fixes.is_empty(), "{verdict:?}");
    assert!(says(&verdict, "does not count"), "{verdict:?}");
    // A host's log, read in one of its virtual machines.
    let guest = Machine::intel("6.8.0", "fpu hypervisor");
    let verdict = guest.with_log_of("6.6.1", &[WARNS, TRAP]).verdict();
    assert_eq!(verdict.condition, Condition::HostDecides, "{verdict:?}");
}

#[test]
fn a_log_and_a_command_line_that_do_not_fit_are_doubted() {
    let machine = Machine::intel("6.8.0", SPLIT).with_mitigate("1");
    let says_off = machine.clone().with_command_line("split_lock_detect=off");
    for (machine, is_doubted) in [
        (machine.clone().with_log(&[WARNS]), false),
        (machine.with_log(&[DISABLED]), true),
        (says_off.clone().with_log(&[DISABLED]), false),
        (says_off.with_log(&[WARNS]), true),
    ] {
        let verdict = machine.verdict();
        assert_eq!(says(&verdict, "something else"), is_doubted, "{verdict:?}");
        assert!(!says(&verdict, "does not know"), "{verdict:?}");
    }
}

/// `ratelimit:` without a number is a limit of nothing, and the kernel then says that it is 0.
#[test]
fn a_limit_without_a_number_is_none() {
    let bus_locks = Condition::LogOnly {
        because: LogOnlyReason::BusLocks,
    };
    let machine = Machine::intel("6.8.0", "fpu split_lock_detect bus_lock_detect")
        .with_command_line("split_lock_detect=ratelimit:");
    assert_eq!(machine.condition(), bus_locks);
    let said = "x86/split lock detection: #DB: setting system wide bus lock rate limit to 0/sec";
    let verdict = machine.with_log(&[said]).verdict();
    assert_eq!(verdict.condition, bus_locks);
    assert!(verdict.doubts.is_empty(), "{verdict:?}");
}

#[test]
fn a_guests_own_settings_say_nothing_of_its_host() {
    let unset = "# CONFIG_X86_BUS_LOCK_DETECT is not set\n";
    let guest = Machine::intel("6.14.0", "fpu hypervisor");
    let bus = Machine::intel("6.14.0", "fpu hypervisor bus_lock_detect");
    let off = bus.clone().with_command_line("split_lock_detect=off");
    for machine in [
        guest.clone(),
        guest.clone().with_config(unset),
        guest.with_log(&[FAILED]),
        off.clone(),
        off.with_log(&[DISABLED]),
    ] {
        assert_eq!(machine.condition(), Condition::HostDecides, "{machine:?}");
    }
    // But if it kills programs by itself, that can be seen, and changed.
    let fatal = bus.with_command_line("split_lock_detect=fatal");
    let said = "x86/split lock detection: #DB: sending SIGBUS on user-space bus_locks";
    for machine in [fatal.clone(), fatal.with_log(&[said])] {
        let verdict = machine.verdict();
        assert_eq!(verdict.condition, Condition::Fatal, "{machine:?}");
        assert!(says(&verdict, "whose host may"), "{verdict:?}");
    }
}

/// Enterprise kernels take from later ones what suits them: what they show counts, and not their number.
#[test]
fn what_an_old_kernel_shows_counts_more_than_its_number() {
    let before = |because| Condition::LogOnly { because };
    let old = "4.18.0-553.el8.x86_64";
    let machine = Machine::intel(old, SPLIT);
    assert_eq!(machine.condition(), before(LogOnlyReason::Before519));
    let machine = machine.with_mitigate("1");
    assert_eq!(machine.condition(), Condition::Livelock);
    let machine = Machine::intel("5.14.0-611.el9.x86_64", SPLIT)
        .with_config("# CONFIG_X86_BUS_LOCK_DETECT is not set\n");
    assert_eq!(machine.condition(), Condition::NotCompiledIn);
    // Zen 5, on a kernel that has 6.13's change, or has not.
    let machine = Machine::amd("6.12.0-55.el10.x86_64", BUS);
    let verdict = machine.verdict();
    assert_eq!(verdict.condition, Condition::Unknown);
    assert!(says(&verdict, "enterprise"), "{verdict:?}");
    let machine = machine.with_log(&[BUS_TRAP]);
    assert_eq!(machine.condition(), before(LogOnlyReason::BusLocks));
}

/// The flag split_lock_detect is made up by the kernel.
#[test]
fn a_kernel_without_detection_does_not_show_what_the_cpu_can_do() {
    let because = NotApplicableReason::KernelBefore57;
    let machine = Machine::intel("5.4.0", "fpu");
    assert_eq!(machine.condition(), Condition::NotApplicable { because });
    assert!(machine.condition().meaning().contains("a newer one may"));
    let because = NotApplicableReason::Cpu;
    let machine = Machine::amd("5.4.0", "fpu");
    assert_eq!(machine.condition(), Condition::NotApplicable { because });
}

#[test]
fn a_word_that_the_kernel_does_not_know_is_pointed_out() {
    let machine = Machine::intel("6.8.0", SPLIT).with_mitigate("1");
    for (word, is_known) in [("none", false), ("\"off\"", false), ("warn", true)] {
        let parameter = format!("split_lock_detect={word}");
        let verdict = machine.clone().with_command_line(&parameter).verdict();
        assert_eq!(verdict.condition, Condition::Livelock);
        assert_eq!(says(&verdict, "does not know"), !is_known, "{verdict:?}");
    }
    let verdict = machine.with_mitigate("off").verdict();
    assert_eq!(verdict.condition, Condition::Livelock);
    assert!(says(&verdict, "neither 0 nor 1"), "{verdict:?}");
}

#[test]
fn traps_where_there_should_be_none_are_doubted() {
    let off = Machine::intel("6.8.0", SPLIT).with_command_line("split_lock_detect=off");
    for (machine, is_doubted) in [
        (off.clone().with_log(&[DISABLED, TRAP]), true),
        (off.with_log(&[DISABLED]), false),
        // This CPU cannot have trapped it: the log is not this machine's.
        (Machine::amd("6.8.0", "fpu").with_log(&[TRAP]), false),
        // Another kernel's traps are none of this one's.
        (
            Machine::amd("6.8.0", "fpu").with_log_of("6.6.1", &[TRAP]),
            false,
        ),
    ] {
        let verdict = machine.verdict();
        assert_eq!(verdict.answer(), Answer::Fine, "{verdict:?}");
        assert_eq!(says(&verdict, "should be none"), is_doubted, "{verdict:?}");
    }
    let other = Machine::intel("6.8.0", SPLIT).with_mitigate("1");
    let verdict = other.with_log_of("6.6.1", &[TRAP]).verdict();
    assert!(!says(&verdict, "since the kernel started"), "{verdict:?}");
}

#[test]
fn an_empty_log_is_none() {
    let machine = Machine::intel("6.8.0", SPLIT)
        .with_log(&[DISABLED])
        .with_files(&[("var/log/kern.log", ""), ("var/log/messages", "")]);
    let because = OffReason::BootLine;
    assert_eq!(machine.condition(), Condition::Off { because });
}

fn has_fix(verdict: &Verdict, part: &str) -> bool {
    verdict.fixes.iter().any(|fix| fix.what.contains(part))
}

/// A toolbox of another distribution than the host's is a usual thing.
#[test]
fn a_containers_files_say_nothing_of_its_hosts_boot_loader() {
    let files = [
        ("run/.containerenv", ""),
        ("etc/os-release", "ID=nixos\n"),
        ("etc/default/grub", ""),
    ];
    let machine = Machine::intel("6.8.0", SPLIT).with_mitigate("1");
    let verdict = machine.with_files(&files).verdict();
    let steps = verdict.fixes.iter().flat_map(|fix| &fix.steps);
    for step in steps {
        assert!(
            !step.command.contains("nix") && !step.command.contains("grub"),
            "{step:?}"
        );
    }
}

#[test]
fn a_newer_kernel_is_advised_only_where_it_helps() {
    for (release, is_advised) in [("5.19.17", true), ("6.1.1", true), ("6.8.0", false)] {
        let verdict = Machine::intel(release, SPLIT).verdict();
        assert_eq!(verdict.condition, Condition::Livelock);
        assert_eq!(has_fix(&verdict, "newer kernel"), is_advised, "{verdict:?}");
    }
}

fn machine() -> impl Strategy<Value = Machine> {
    let flags = prop::sample::subsequence(
        vec!["split_lock_detect", "bus_lock_detect", "hypervisor"],
        0..=3,
    );
    let vendors = ["GenuineIntel", "AuthenticAMD", "HygonGenuine", ""];
    let releases =
        "x 4.18.0-553.el8 5.4.0 5.10.0 5.15.0 5.19.0 6.1.0 6.6.58 6.12.0-55.el10 6.14.2 7.2.0";
    let releases: Vec<_> = releases.split(' ').chain([""]).collect();
    let words = "off warn fatal ratelimit:100 ratelimit: ratelimit:0 none o'f;f";
    let words: Vec<_> = words.split(' ').chain([""]).collect();
    let word = prop::sample::select(words);
    let parameters = prop::collection::vec(word, 0..3).prop_map(|words| {
        let parameters = words
            .iter()
            .map(|word| format!("split_lock_detect={word} "));
        parameters.collect::<String>()
    });
    let mitigate = prop::option::of(prop::sample::select(&["0\n", "1\n", "", "2", "x"][..]));
    let config = prop::option::of(Just("# CONFIG_X86_BUS_LOCK_DETECT is not set\n"));
    let lines = [
        WARNS,
        WARNED,
        FAILED,
        DISABLED,
        TRAP,
        BUS_TRAP,
        "x86/split lock detection: #DB: warning on user-space bus_locks",
        "x86/split lock detection: #DB: setting system wide bus lock rate limit to 5/sec",
        "unchecked MSR access error: WRMSR to 0x33 (tried to write 0x0000000020000000) at rIP: 0x1 (x+0x1/0x2)",
    ];
    let log = prop::option::of((
        any::<bool>(),
        prop::collection::vec(prop::sample::select(lines.to_vec()), 0..4),
    ));
    (
        prop::sample::select(vendors.to_vec()),
        flags,
        prop::sample::select(releases),
        parameters,
        mitigate,
        config,
        log,
    )
        .prop_map(
            |(vendor, flags, release, parameters, mitigate, config, log)| {
                let machine = Machine {
                    vendor: vendor.into(),
                    flags: flags.join(" "),
                    release: release.into(),
                    command_line: parameters,
                    mitigate: mitigate.map(str::to_owned),
                    config: config.map(str::to_owned),
                    log: None,
                    more: vec![],
                };
                match log {
                    None => machine,
                    Some((true, lines)) => machine.with_log(&lines),
                    Some((false, lines)) => machine.with_log_of("6.6.99", &lines),
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn whatever_a_machine_says_the_advice_does_something_there(machine in machine()) {
        let verdict = machine.verdict();
        let flags: Vec<&str> = machine.flags.split(' ').collect();
        let steps = || verdict.fixes.iter().flat_map(|fix| &fix.steps).map(|step| &step.command);
        let advises = |part: &str| steps().any(|step| step.contains(part));
        let is_livelock = verdict.condition == Condition::Livelock;
        prop_assert_eq!(advises("mitigate"), is_livelock && machine.mitigate.is_some());
        prop_assert!(!advises("=ratelimit:100") || flags.contains(&"bus_lock_detect") || machine.command_line.contains("=ratelimit:100"));
        let is_off = matches!(verdict.condition, Condition::Off { because: OffReason::Parameter | OffReason::BootLine });
        prop_assert!(!(is_off && advises("split_lock_detect=off")));
        // Nobody sleeps where the CPU is known to lack what is needed for that.
        prop_assert!(!is_livelock || flags.contains(&"split_lock_detect"));
        if let Condition::Slowdown { .. } = verdict.condition {
            prop_assert!(flags.contains(&"bus_lock_detect"));
        }
        // What stands on a command line never becomes a part of a command unless it is harmless there.
        prop_assert!(steps().all(|step| !step.contains("o'f;f")));
        prop_assert_eq!(is_livelock, matches!(verdict.cost, Some(Cost::Trap { .. })));
        // A fine machine is not one on which programs are killed or held up.
        if verdict.answer() == Answer::Fine {
            prop_assert!(verdict.cost.is_none());
            let kills = Mode::of(&machine.command_line) == Mode::Fatal
                && machine.log.is_none()
                && machine.config.is_none()
                && flags.contains(&"split_lock_detect");
            prop_assert!(!kills, "{:?}", verdict);
        }
    }

    #[test]
    fn whatever_a_machine_says_its_capture_gets_the_same_verdict(machine in machine(), is_redacted in any::<bool>()) {
        let folder = machine.folder();
        let root = Root::open(folder.path()).unwrap();
        let verdict = judged(&root);
        let mut log = LogCopy::default();
        let history = History::of_machine(&root, |record| log.add(record));
        let mut capture = Capture::of(root, &history, &log, &[]);
        if is_redacted {
            capture.redact();
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        capture.write_to(&mut file).unwrap();
        let again = judged(&Root::open(file.path()).unwrap());
        prop_assert_eq!(again.condition, verdict.condition);
        prop_assert_eq!(again.basis, verdict.basis);
        prop_assert_eq!(again.cost, verdict.cost);
        prop_assert_eq!(again.fixes, verdict.fixes);
    }
}
