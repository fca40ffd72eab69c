//! The comparison against journals of real kernels: they agree, and nothing that a kernel could
//! have done otherwise goes unnoticed.

mod recorded;

use split_lock_lab::journal::{Event, Kind};
use split_lock_lab::replay::{Report, Verdict};
use split_lock_model::handler::Rules;
use split_lock_model::policy::Alternative;

use recorded::Recorded;

impl Recorded {
    /// With one event changed, or left out.
    fn falsified(&self, index: usize, change: impl FnOnce(Event) -> Option<Event>) -> Report {
        let mut journal = self.journal.clone();
        match change(journal[index]) {
            Some(event) => journal[index] = event,
            None => drop(journal.remove(index)),
        }
        Self { journal, ..*self }.report()
    }
}

#[test]
fn real_kernels_do_what_the_model_says() {
    for recorded in Recorded::all() {
        let report = recorded.report();
        assert_eq!(report.mismatches, [], "{}", recorded.profile);
        assert!(report.traps.len() > 15, "{}", recorded.profile);
    }
    let seen = |recorded: Recorded, verdict| recorded.report().count(verdict) > 0;
    assert!(seen(Recorded::kicked(), Verdict::CutShort));
    assert!(seen(Recorded::kicked(), Verdict::Passed));
    assert!(seen(Recorded::some_interrupted(), Verdict::LeftQueue));
}

#[test]
fn another_kernel_does_something_else() {
    for (recorded, profile) in [
        (Recorded::kicked(), "6.1.192"),
        (Recorded::contended(), "6.1.192"),
        (Recorded::some_interrupted(), "6.1.192"),
        (Recorded::some_interrupted(), "6.12.117,hz=1000"),
        (Recorded::some_interrupted(), "6.12.117,mitigate=0"),
        (Recorded::unmitigated(), "6.12.117"),
        (Recorded::unmitigated(), "6.16,mitigate=0"),
    ] {
        assert_ne!(recorded.against(profile).mismatches, [], "{profile}");
    }
}

#[test]
fn changed_kernel_does_what_the_model_of_its_policy_says_and_no_other() {
    let recorded = Recorded::sentence();
    let report = recorded.report();
    assert_eq!(report.mismatches, []);
    let seen = [Verdict::Passed, Verdict::CutShort];
    assert!(seen.iter().all(|&verdict| report.count(verdict) > 0));
    for policy in Alternative::ALL {
        let rules = policy.rules();
        let agrees = rules == Alternative::FixedEnd.rules();
        let report = Recorded {
            rules,
            ..Recorded::sentence()
        }
        .report();
        assert_eq!(report.mismatches.is_empty(), agrees, "{policy}");
    }
}

#[test]
fn another_policy_does_something_else() {
    for policy in Alternative::ALL {
        let recorded = Recorded {
            rules: policy.rules(),
            ..Recorded::kicked()
        };
        let agrees = recorded.report().mismatches.is_empty();
        assert_eq!(agrees, policy.rules() == Rules::UPSTREAM, "{policy}");
    }
}

/// A kernel that does any of this instead does something wrong.
fn otherwise(event: Event) -> Vec<Event> {
    let kinds = match event.kind {
        Kind::Timer(tick) => vec![Kind::Timer(tick + 1)],
        Kind::Cancel(tick) => vec![Kind::Cancel(tick + 1)],
        Kind::Slept(0) => vec![Kind::Slept(TICK_MS)],
        Kind::Slept(left) => vec![Kind::Slept(left + TICK_MS), Kind::Slept(left - TICK_MS)],
        Kind::Took { taken } => vec![Kind::Took { taken: !taken }],
        Kind::Msr { on } => vec![Kind::Msr { on: !on }],
        Kind::Return { .. } => vec![Kind::Return { retry: false }],
        _ => vec![],
    };
    let with = |kind| Event { kind, ..event };
    kinds.into_iter().map(with).collect()
}

/// All of these kernels tick 250 times a second.
const TICK_MS: i64 = 4;

#[test]
fn whatever_a_kernel_does_otherwise_is_noticed() {
    for recorded in Recorded::all() {
        for (index, event) in recorded.journal.iter().enumerate() {
            for changed in otherwise(*event) {
                let report = recorded.falsified(index, |_| Some(changed));
                assert_ne!(report.mismatches, [], "event {index}: {event:?}");
            }
        }
    }
}

/// Up to the end of the trap whose sleep ends at `index`, with everything from `since` on a tick later, and so much of
/// the sleep left.
fn a_tick_later(recorded: &Recorded, index: usize, since: usize, left: i64) -> Report {
    let mut journal = recorded.journal[..=index + 1].to_vec();
    assert_eq!(journal[index + 1].kind, Kind::Return { retry: true });
    journal[index].kind = Kind::Slept(left);
    for event in &mut journal[since..] {
        event.ns += TICK_MS.cast_unsigned() * 1_000_000;
        event.jiffies += 1;
    }
    let other = Recorded {
        journal,
        ..*recorded
    };
    other.report()
}

#[test]
fn the_rest_of_a_sleep_is_that_of_a_tick_in_which_the_kernel_may_have_looked() {
    let recorded = Recorded::kicked();
    let mut tried = 0;
    for (index, event) in recorded.journal.iter().enumerate() {
        let Kind::Slept(left) = event.kind else {
            continue;
        };
        // With less the later look would have found the sleep complete.
        if left < 2 * TICK_MS {
            continue;
        }
        let mut before = recorded.journal[..index].iter();
        let cancel = before
            .rposition(|event| matches!(event.kind, Kind::Cancel(_)))
            .expect("a timer that was taken back");
        for (since, left, agrees) in [
            // The tick came between taking the timer back and the note of what is left: before or after the look.
            (index, left, true),
            (index, left - TICK_MS, true),
            (index, left + TICK_MS, false),
            // It came before: the kernel has counted it.
            (cancel, left, false),
            (cancel, left - TICK_MS, true),
        ] {
            let report = a_tick_later(&recorded, index, since, left);
            assert_eq!(report.mismatches.is_empty(), agrees, "event {index}");
        }
        tried += 1;
    }
    assert!(tried > 5, "{tried}");
}

#[test]
fn a_sleep_that_ends_early_without_taking_its_timer_back_is_noticed() {
    for recorded in Recorded::all() {
        for (index, event) in recorded.journal.iter().enumerate() {
            // A CPU that is held up may let a thread take back a timer whose time has come.
            if matches!(event.kind, Kind::Cancel(expires) if event.jiffies <= expires) {
                let report = recorded.falsified(index, |_| None);
                assert_ne!(report.mismatches, [], "event {index}: {event:?}");
            }
        }
    }
}

#[test]
fn timers_that_fire_early_are_noticed() {
    for recorded in Recorded::all() {
        for (index, event) in recorded.journal.iter().enumerate() {
            let by_timer = match event.kind {
                Kind::Wake => !event.signal_pending && follows_timer(&recorded.journal, index),
                Kind::Queue { .. } => true,
                _ => false,
            };
            if by_timer && is_on_time(&recorded, index) {
                let early = |event: Event| {
                    let jiffies = event.jiffies - 1;
                    Some(Event { jiffies, ..event })
                };
                let report = recorded.falsified(index, early);
                assert_ne!(report.mismatches, [], "event {index}: {event:?}");
            }
        }
    }
}

/// Whether the last that the thread did was to fall asleep, so that its timer wakes it.
fn follows_timer(journal: &[Event], index: usize) -> bool {
    let before = journal[..index].iter().rev();
    let last = before
        .filter(|event| event.pid == journal[index].pid)
        .find(|event| !matches!(event.kind, Kind::Queue { .. } | Kind::Signal(_)));
    last.is_some_and(|event| matches!(event.kind, Kind::Timer(_)))
}

/// Whether the timer that fired here did so in the tick after the one that it asked for. One that
/// was late would still not be early a tick before.
fn is_on_time(recorded: &Recorded, index: usize) -> bool {
    let event = recorded.journal[index];
    let asked = recorded.journal[..index].iter().rev().find_map(|other| {
        let Kind::Timer(tick) = other.kind else {
            return None;
        };
        let mine = match event.kind {
            Kind::Queue { .. } => other.cpu == event.cpu && !is_sleep(recorded, other),
            _ => other.pid == event.pid,
        };
        mine.then_some(tick)
    });
    asked.is_some_and(|tick| event.jiffies == tick + 1)
}

/// Whether a timer is that of a sleep: its thread had just noted that it goes to sleep.
fn is_sleep(recorded: &Recorded, timer: &Event) -> bool {
    let before = recorded.journal.iter().take_while(|event| *event != timer);
    let last = before.filter(|event| event.pid == timer.pid).last();
    last.is_some_and(|event| matches!(event.kind, Kind::Sleep(_)))
}

#[test]
fn a_window_that_never_closes_is_noticed() {
    let recorded = Recorded::kicked();
    for (index, event) in recorded.journal.iter().enumerate() {
        if matches!(event.kind, Kind::Work { .. }) {
            let report = recorded.falsified(index, |_| None);
            assert_ne!(report.mismatches, [], "event {index}: {event:?}");
        }
    }
}

#[test]
fn a_thread_that_never_comes_back_is_noticed() {
    let mut recorded = Recorded::kicked();
    let last = recorded
        .journal
        .iter()
        .rposition(|event| matches!(event.kind, Kind::Return { .. }));
    recorded.journal.remove(last.expect("a return"));
    assert_ne!(recorded.report().mismatches, []);
}

/// The places of the work that releases the semaphore, and the CPUs on which it ran.
fn works(recorded: &Recorded) -> Vec<(usize, u16)> {
    let places = recorded.journal.iter().enumerate();
    places
        .filter(|(_, event)| event.kind == Kind::Work { unlocks: true })
        .map(|(index, event)| (index, event.cpu))
        .collect()
}

/// Up to the end of the work at `index`, which runs on `cpu` instead.
fn worked_on(recorded: &Recorded, index: usize, cpu: u16) -> Report {
    let here = recorded.journal[index].cpu;
    let mut rest = recorded.journal[index..].iter();
    let switch = rest.position(|event| event.cpu == here && event.kind == Kind::Msr { on: true });
    let switch = index + switch.expect("what the work does");
    let mut journal = recorded.journal[..=switch].to_vec();
    journal[index].cpu = cpu;
    journal[switch].cpu = cpu;
    let mut report = Recorded {
        journal,
        ..*recorded
    }
    .report();
    // The journal ends in the middle of things.
    report.mismatches.retain(|mismatch| mismatch.ns > 0);
    report
}

#[test]
fn work_may_run_where_it_ran_last_and_nowhere_else() {
    let recorded = Recorded::some_interrupted();
    let mut tried = [0; 2];
    for pair in works(&recorded).windows(2) {
        let [(_, before), (index, here)] = *pair else {
            unreachable!("windows of two")
        };
        let other = 1 - here;
        let report = worked_on(&recorded, index, other);
        assert_eq!(report.mismatches.is_empty(), other == before, "{index}");
        assert_eq!(report.misplaced_work, u64::from(other == before));
        tried[usize::from(other == before)] += 1;
    }
    assert!(tried.iter().all(|&times| times > 0), "{tried:?}");
}
