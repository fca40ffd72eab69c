//! The guest kernel with two tasks.

use super::*;

use split_lock_repro::sweep::Host;
use split_lock_repro::two_tasks::{Moment, Task, TwoTasks};

use crate::runs::{is_done, moments, two_tasks};

#[test]
fn without_detection_one_task_finishes_and_the_other_goes_on() {
    let Some(kvm) = kvm() else { return };
    if detects_split_locks() {
        return;
    }
    let moments = moments(&kvm, &two_tasks(3000, Host::Native), |moments| {
        let done = moments.iter().find(|moment| is_done(moment));
        done.is_some_and(|done| {
            let last = &moments[moments.len() - 1];
            last.counter.progress > done.counter.progress
                && last.counter.interrupts > done.counter.interrupts + 10
        })
    });
    let done = moments.iter().position(is_done).expect("it is over then");
    let (before, after) = moments.split_at(done);
    for moment in before {
        let [splitter, counter] = [&moment.splitter, &moment.counter];
        assert!(
            splitter.interrupts.abs_diff(counter.interrupts) <= 1,
            "{moment:?}"
        );
    }
    // A run may end between the report that it is done and the switch to the other one.
    for moment in &after[1..] {
        assert_eq!(moment.running, Task::Counter);
    }
    for moment in after {
        assert_eq!(moment.splitter, after[0].splitter);
        assert_eq!(moment.done_after, after[0].done_after);
    }
    assert_eq!(after[0].splitter.progress, 3000);
    assert!(after[0].done_after <= Some(after[0].at));
    for pair in moments.windows(2) {
        assert!(pair[0].at < pair[1].at);
        assert!(pair[0].counter.progress <= pair[1].counter.progress);
        assert!(pair[0].splitter.progress <= pair[1].splitter.progress);
    }
}

/// So that a report can show where a task hangs.
#[test]
fn a_task_is_found_at_its_instructions_whether_it_runs_or_not() {
    let Some(kvm) = kvm() else { return };
    let both_were_preempted = |moments: &[Moment]| {
        let last = &moments[moments.len() - 1];
        last.splitter.interrupts > 5 && last.counter.interrupts > 5
    };
    let moments = moments(
        &kvm,
        &two_tasks(u64::MAX, Host::Native),
        both_were_preempted,
    );
    // `lock inc qword ptr [rsi]` or what follows it, and `inc qword ptr [rsi]`.
    let lock_inc = &[0xf0, 0x48, 0xff, 0x06, 0x48, 0xff, 0xcf];
    let inc = &[0x48, 0xff, 0x06, 0xeb, 0xfb];
    let last = &moments[moments.len() - 1];
    for (task, code) in [(&last.splitter, &lock_inc[..]), (&last.counter, inc)] {
        let is_there = |at: usize| task.instruction.starts_with(&code[at..]);
        assert!((0..code.len()).any(is_there), "{task:x?}");
    }
}

#[test]
fn a_run_ends_when_its_time_is_over_and_not_before() {
    let Some(kvm) = kvm() else { return };
    let short = TwoTasks {
        length: Duration::from_millis(10),
        ..two_tasks(u64::MAX, Host::Native)
    };
    let moments = moments(&kvm, &short, |_| false);
    let (last, before) = moments.split_last().unwrap();
    assert!(last.at >= short.length);
    assert!(before.iter().all(|moment| moment.at < short.length));
    assert!(!is_done(last));
}
