//! The gate, with threads that behave like vCPUs.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::thread;

use split_lock_assist::pause::{GuestPass, Kick, Pause, PauseGate};
use split_lock_model::random::SplitMix64;

/// A kick that is not lost, whenever it comes.
#[derive(Debug, Clone, Default)]
struct KickFlag(Arc<AtomicBool>);

impl KickFlag {
    fn kick(&self) {
        self.0.store(true, SeqCst);
    }

    fn taken(&self) -> bool {
        self.0.swap(false, SeqCst)
    }
}

fn vcpu(gate: &PauseGate) -> (GuestPass, KickFlag) {
    let kick = KickFlag::default();
    let kicker = kick.clone();
    (gate.pass(move || kicker.kick()), kick)
}

/// What an emulated instruction does: anything but atomic.
fn add_in_two_steps(counter: &AtomicU64) {
    let value = counter.load(Relaxed);
    std::hint::spin_loop();
    counter.store(value + 1, Relaxed);
}

#[test]
fn nothing_that_is_done_in_a_pause_is_lost_or_torn() {
    const VCPUS: u64 = 4;
    const PAUSES: u64 = 5_000;
    let gate = PauseGate::new();
    let counter = AtomicU64::new(0);
    let natively = AtomicU64::new(0);
    let inside = AtomicUsize::new(0);
    thread::scope(|scope| {
        for id in 0..VCPUS {
            let (mut pass, kick) = vcpu(&gate);
            let (counter, natively, inside) = (&counter, &natively, &inside);
            scope.spawn(move || {
                let mut random = SplitMix64::new(id);
                for _ in 0..PAUSES {
                    let until_exit = random.below(200);
                    {
                        let _inside = pass.enter();
                        inside.fetch_add(1, SeqCst);
                        for _ in 0..until_exit {
                            if kick.taken() {
                                break;
                            }
                            // What the CPU does is atomic.
                            counter.fetch_add(1, Relaxed);
                            natively.fetch_add(1, Relaxed);
                        }
                        inside.fetch_sub(1, SeqCst);
                    }
                    let _paused = pass.pause_others();
                    assert_eq!(inside.load(SeqCst), 0);
                    add_in_two_steps(counter);
                    assert_eq!(inside.load(SeqCst), 0);
                }
            });
        }
    });
    let natively = natively.into_inner();
    assert_eq!(counter.into_inner(), natively + VCPUS * PAUSES);
}

/// A guest that never exits by itself: each pause hangs unless its kick arrives.
#[test]
fn a_vcpu_that_never_exits_is_kicked_out_every_time() {
    const PAUSES: u64 = 5_000;
    let gate = PauseGate::new();
    let (done, counter) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            let (mut pass, kick) = vcpu(&gate);
            let done = &done;
            scope.spawn(move || {
                while !done.load(SeqCst) {
                    let _inside = pass.enter();
                    while !kick.taken() && !done.load(SeqCst) {
                        thread::yield_now();
                    }
                }
            });
        }
        let pauser = vcpu(&gate).0;
        for _ in 0..PAUSES {
            let _paused = pauser.pause_others();
            add_in_two_steps(&counter);
        }
        done.store(true, SeqCst);
    });
    assert_eq!(counter.into_inner(), PAUSES);
}

/// Both begin at the same moment, which is when a store that is still on its way could be missed.
#[test]
fn going_in_and_pausing_at_the_same_time_exclude_each_other() {
    const ROUNDS: u64 = 50_000;
    let gate = PauseGate::new();
    let (counter, ready) = (AtomicU64::new(0), [AtomicU64::new(0), AtomicU64::new(0)]);
    let meet = |side: usize, round| {
        ready[side].store(round, SeqCst);
        let mut spins = 0u32;
        while ready[1 - side].load(SeqCst) < round {
            std::hint::spin_loop();
            spins += 1;
            if spins.is_multiple_of(1_000) {
                thread::yield_now();
            }
        }
    };
    let (mut pass, pauser) = (vcpu(&gate).0, vcpu(&gate).0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                meet(0, round);
                // Closing the gate takes a little longer than going in.
                (0..round % 64).for_each(|_| std::hint::spin_loop());
                let _inside = pass.enter();
                add_in_two_steps(&counter);
            }
        });
        for round in 1..=ROUNDS {
            meet(1, round);
            let _paused = pauser.pause_others();
            add_in_two_steps(&counter);
        }
    });
    assert_eq!(counter.into_inner(), 2 * ROUNDS);
}

#[test]
fn all_can_pause_at_the_same_time() {
    const VCPUS: u64 = 8;
    const PAUSES: u64 = 2_000;
    let gate = PauseGate::new();
    let counter = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..VCPUS {
            let (pass, _kick) = vcpu(&gate);
            let counter = &counter;
            scope.spawn(move || {
                for _ in 0..PAUSES {
                    let _paused = pass.pause_others();
                    add_in_two_steps(counter);
                }
            });
        }
    });
    assert_eq!(counter.into_inner(), VCPUS * PAUSES);
}

#[test]
fn one_that_pauses_without_end_does_not_keep_the_others_out() {
    const ENTRIES: u64 = 500;
    let gate = PauseGate::new();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let pauser = vcpu(&gate).0;
        let done = &done;
        scope.spawn(move || {
            while !done.load(SeqCst) {
                drop(pauser.pause_others());
            }
        });
        let (mut pass, _kick) = vcpu(&gate);
        for _ in 0..ENTRIES {
            drop(pass.enter());
        }
        done.store(true, SeqCst);
    });
}

#[test]
fn a_closed_gate_keeps_everybody_out_until_it_opens() {
    let gate = PauseGate::new();
    let (pauser, mut pass) = (vcpu(&gate).0, vcpu(&gate).0);
    let (about_to_enter, opened) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let paused = pauser.pause_others();
        scope.spawn(|| {
            about_to_enter.store(true, SeqCst);
            let _inside = pass.enter();
            assert!(opened.load(SeqCst));
        });
        while !about_to_enter.load(SeqCst) {
            thread::yield_now();
        }
        thread::sleep(std::time::Duration::from_millis(20));
        opened.store(true, SeqCst);
        drop(paused);
    });
}

#[test]
fn a_pass_that_was_given_back_is_neither_kicked_nor_waited_for() {
    let gate = PauseGate::new();
    let gone = gate.pass(|| -> Kick { panic!("nobody is there to be kicked") });
    let stays_out = gate.pass(|| -> Kick { panic!("it is not inside") });
    drop(gone);
    drop(vcpu(&gate).0.pause_others());
    drop(stays_out);
}

#[test]
fn a_kick_that_panics_leaves_the_gate_open() {
    let gate = PauseGate::new();
    let mut broken = gate.pass(|| -> Kick { panic!("broken") });
    let inside = broken.enter();
    let pauser = vcpu(&gate).0;
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        drop(pauser.pause_others());
    }));
    assert!(result.is_err());
    drop(inside);
    drop(broken.enter());
    drop(pauser.pause_others());
}

/// Its kicker says that it is gone, and it cannot leave any more.
#[test]
fn a_vcpu_that_is_gone_counts_as_outside() {
    let gate = PauseGate::new();
    let mut gone = gate.pass(|| Kick::Gone);
    std::mem::forget(gone.enter());
    drop(vcpu(&gate).0.pause_others());
}

#[test]
fn a_kick_that_could_not_be_sent_is_repeated() {
    let gate = PauseGate::new();
    let kick = KickFlag::default();
    let (kicker, tries) = (kick.clone(), AtomicU64::new(0));
    let mut pass = gate.pass(move || {
        if tries.fetch_add(1, SeqCst) < 3 {
            return Err("the queue of signals is full");
        }
        kicker.kick();
        Ok(())
    });
    let is_inside = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let _inside = pass.enter();
            is_inside.store(true, SeqCst);
            while !kick.taken() {
                thread::yield_now();
            }
        });
        while !is_inside.load(SeqCst) {
            thread::yield_now();
        }
        drop(vcpu(&gate).0.pause_others());
    });
}

/// A thread that panics takes its pass along; the others go on.
#[test]
fn a_pass_is_unwind_safe() {
    let gate = PauseGate::new();
    let (mut pass, _kick) = vcpu(&gate);
    let result = std::panic::catch_unwind(move || {
        let _inside = pass.enter();
        panic!("this vCPU's thread has a fault");
    });
    assert!(result.is_err());
    drop(vcpu(&gate).0.pause_others());
}
