//! The guest kernel with two tasks on an emulated host.

use std::time::Duration;

use kvm_ioctls::Kvm;
use split_lock_assist::guard::{Config, Reaction};
use split_lock_repro::sweep::Host;
use split_lock_repro::two_tasks::{Moment, TwoTasks};

use crate::runs::{is_done, moments, two_tasks};
use crate::undetecting;

const SPLIT_LOCKS: u64 = 2000;

/// `lock inc qword ptr [rsi]`
const SPLIT_LOCK: [u8; 4] = [0xf0, 0x48, 0xff, 0x06];

fn on(kernel: &str) -> TwoTasks {
    two_tasks(SPLIT_LOCKS, Host::Emulated(kernel.parse().unwrap()))
}

/// The moment at which it is done.
fn end_of(kvm: &Kvm, guest: &TwoTasks) -> Moment {
    let mut moments = moments(kvm, guest, |moments| moments.last().is_some_and(is_done));
    let last = moments.pop().unwrap();
    assert!(is_done(&last), "{last:?}");
    assert_eq!(last.splitter.progress, SPLIT_LOCKS);
    last
}

/// Some interrupts taken by both tasks, and in no quantum the time to sleep to the end, because other
/// work on this machine made it longer.
fn moments_below_the_threshold(kvm: &Kvm) -> Vec<Moment> {
    const SHORTEST_SLEEP: Duration = Duration::from_millis(12);
    let both_were_interrupted = |moments: &[Moment]| {
        let last = &moments[moments.len() - 1];
        last.splitter.interrupts >= 10 && last.counter.interrupts >= 10
    };
    for _ in 0..50 {
        let moments = moments(kvm, &on("6.6,hz=250"), both_were_interrupted);
        let longest_quantum = moments.windows(2).map(|pair| pair[1].at - pair[0].at).max();
        if moments[0].at.max(longest_quantum.unwrap()) < SHORTEST_SLEEP {
            return moments;
        }
    }
    panic!("this machine is too busy for timers of 1 ms");
}

#[test]
fn below_the_threshold_one_task_hangs_while_interrupts_are_taken_and_the_other_goes_on() {
    let Some(host) = undetecting() else { return };
    let moments = moments_below_the_threshold(&host.kvm);
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
    let Some(host) = undetecting() else { return };
    for (kernel, quantum_ms) in [("6.6,hz=250", 30), ("6.6,mode=off", 1)] {
        let mut guest = on(kernel);
        guest.quantum = Duration::from_millis(quantum_ms);
        end_of(&host.kvm, &guest);
    }
}

#[test]
fn a_guard_gets_it_to_its_end_below_the_threshold() {
    let Some(host) = undetecting() else { return };
    let mut guest = on("6.6,hz=250");
    guest.guard = Some(Config::new(Reaction::Emulate));
    let last = end_of(&host.kvm, &guest);
    assert!(last.emulated > 0, "{last:?}");
    assert!(last.counter.progress > 0, "{last:?}");
}
