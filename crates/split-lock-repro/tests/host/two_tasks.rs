//! The guest kernel with two tasks on an emulated host.

use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::time::Duration;

use split_lock_assist::guard::{Config, Reaction};
use split_lock_repro::sweep::Host;
use split_lock_repro::two_tasks::{Moment, TwoTasks};

use crate::{detects_split_locks, kvm, machine};

const SPLIT_LOCKS: u64 = 2000;

/// `lock inc qword ptr [rsi]`
const SPLIT_LOCK: [u8; 4] = [0xf0, 0x48, 0xff, 0x06];

/// All moments up to the first of which `is_over` is true; `None` if that cannot be tried here.
fn play(
    kernel: &str,
    guard: Option<&Config>,
    quantum_ms: u64,
    mut is_over: impl FnMut(&Moment) -> bool,
) -> Option<Vec<Moment>> {
    let kvm = kvm().filter(|_| !detects_split_locks())?;
    let scene = TwoTasks {
        split_locks: NonZeroU64::new(SPLIT_LOCKS).unwrap(),
        quantum: Duration::from_millis(quantum_ms),
        length: Duration::from_secs(60),
        host: Host::Emulated(kernel.parse().unwrap()),
        guard: guard.cloned(),
    };
    let mut moments = vec![];
    let last = scene.run(&kvm, &mut |moment| {
        moments.push(moment.clone());
        match is_over(moment) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    last.unwrap();
    Some(moments)
}

/// Some interrupts taken by both tasks, and in no quantum the time to sleep to the end, because other
/// work on this machine made it longer.
fn play_below_the_threshold() -> Option<Vec<Moment>> {
    const SHORTEST_SLEEP: Duration = Duration::from_millis(12);
    let both_were_interrupted =
        |moment: &Moment| moment.splitter.interrupts >= 10 && moment.counter.interrupts >= 10;
    for _ in 0..50 {
        let moments = play("6.6,hz=250", None, 1, both_were_interrupted)?;
        let longest_quantum = moments.windows(2).map(|pair| pair[1].at - pair[0].at).max();
        if moments[0].at.max(longest_quantum.unwrap()) < SHORTEST_SLEEP {
            return Some(moments);
        }
    }
    panic!("this machine is too busy for timers of 1 ms");
}

#[test]
fn below_the_threshold_one_task_hangs_while_interrupts_are_taken_and_the_other_goes_on() {
    let _alone = machine();
    let Some(moments) = play_below_the_threshold() else {
        return;
    };
    assert!(moments.iter().all(|moment| moment.splitter.progress == 0));
    let since_its_first_interrupt = moments.iter().filter(|m| m.splitter.interrupts > 0);
    for Moment { splitter, .. } in since_its_first_interrupt {
        assert!(
            splitter.instruction.starts_with(&SPLIT_LOCK),
            "{splitter:x?}"
        );
    }
    let last = &moments[moments.len() - 1];
    assert!(
        last.counter.progress > 0 && last.done_after.is_none(),
        "{last:?}"
    );
}

#[test]
fn above_the_threshold_and_without_detection_it_finishes() {
    let _alone = machine();
    for (kernel, quantum_ms) in [("6.6,hz=250", 30), ("6.6,mode=off", 1)] {
        let Some(moments) = play(kernel, None, quantum_ms, |moment| {
            moment.done_after.is_some()
        }) else {
            return;
        };
        let last = &moments[moments.len() - 1];
        assert!(last.done_after.is_some(), "{last:?}");
        assert_eq!(last.splitter.progress, SPLIT_LOCKS);
    }
}

#[test]
fn a_guard_gets_it_to_its_end_below_the_threshold() {
    let _alone = machine();
    let guard = Config {
        reaction: Reaction::Emulate,
        ..Config::default()
    };
    let done = |moment: &Moment| moment.done_after.is_some();
    let Some(moments) = play("6.6,hz=250", Some(&guard), 1, done) else {
        return;
    };
    let last = &moments[moments.len() - 1];
    assert!(last.done_after.is_some(), "{last:?}");
    assert_eq!(last.splitter.progress, SPLIT_LOCKS);
    assert!(last.emulated > 0, "{last:?}");
    assert!(last.counter.progress > 0, "{last:?}");
}
