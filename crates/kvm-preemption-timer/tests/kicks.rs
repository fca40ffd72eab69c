//! No kick is lost, whenever it comes.

mod common;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::{
    GIVE_UP, OUT_LOOP, SPIN, both_configs, each_bounded, each_mechanism, expired, far_deadline,
    kicked, one_vcpu,
};
use kvm_preemption_timer::{Config, Deadline, KickError, Outcome, PreemptibleVcpu, Signal};
use split_lock_model::random::SplitMix64;

#[test]
fn a_kick_while_no_run_is_active_ends_the_next_run_and_only_that() {
    each_bounded(SPIN, |mut vcpu| {
        let kicker = vcpu.kicker();
        for kicks in 1..4 {
            for _ in 0..kicks {
                kicker.kick().unwrap();
            }
            kicked(vcpu.run_until(far_deadline()));
            let short = Deadline::after(Duration::from_millis(1));
            expired(vcpu.run_until(short));
        }
    });
}

/// The kicker waits for each kick to be answered before it sends the next one, at random moments:
/// before KVM_RUN, in it, and after it. A kick that is lost is never answered.
fn every_kick_is_answered(config: Config, code: &[u8], kicks: u64) {
    let Some((_vm, vcpu)) = one_vcpu(code) else {
        return;
    };
    let mut vcpu = PreemptibleVcpu::with_config(vcpu, config).unwrap();
    let kicker = vcpu.kicker();
    let (answers, answered) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut random = SplitMix64::new(3);
            for _ in 0..kicks {
                spin_for(Duration::from_nanos(random.below(60_000)));
                kicker.kick().unwrap();
                answered.recv().unwrap();
            }
        });
        // Owned here, so that a failure below also ends the kicker.
        let answers = answers;
        let mut random = SplitMix64::new(4);
        let start = Instant::now();
        let mut unanswered = kicks;
        while unanswered > 0 {
            // Budgets as short as the kicks are frequent, so that both meet.
            let budget = Deadline::after(Duration::from_nanos(random.below(50_000)));
            if matches!(vcpu.run_until(budget).unwrap(), Outcome::Kicked) {
                unanswered -= 1;
                answers.send(()).unwrap();
            }
            assert!(start.elapsed() < GIVE_UP, "a kick was lost");
        }
    });
}

fn spin_for(pause: Duration) {
    let start = Instant::now();
    while start.elapsed() < pause {
        std::hint::spin_loop();
    }
}

#[test]
fn kicks_at_any_moment_are_answered() {
    for config in both_configs() {
        every_kick_is_answered(config, SPIN, 5000);
        every_kick_is_answered(config, OUT_LOOP, 5000);
    }
}

#[test]
fn kicks_with_a_real_time_signal_are_answered() {
    for config in both_configs() {
        let signal = Signal::realtime(3).unwrap();
        every_kick_is_answered(config.signal(signal), SPIN, 2000);
    }
}

#[test]
fn a_kick_and_a_deadline_at_once_are_both_reported() {
    each_bounded(SPIN, |mut vcpu| {
        for _ in 0..200 {
            let deadline = Deadline::after(Duration::from_micros(50));
            expired(vcpu.run_until(Deadline::after(Duration::ZERO)));
            vcpu.kicker().kick().unwrap();
            std::thread::sleep(Duration::from_micros(100));
            kicked(vcpu.run_until(deadline));
            expired(vcpu.run_until(deadline));
        }
    });
}

#[test]
fn a_kicker_may_outlive_its_vcpu() {
    each_mechanism(SPIN, |config, vcpu| {
        let kicker = PreemptibleVcpu::with_config(vcpu, config).unwrap().kicker();
        assert!(matches!(kicker.kick(), Err(KickError::Gone)));
    });
}

#[test]
fn kicks_that_race_with_the_end_do_no_harm() {
    each_mechanism(SPIN, |config, mut vcpu| {
        for _ in 0..300 {
            let bounded = PreemptibleVcpu::with_config(&mut vcpu, config).unwrap();
            let kicker = bounded.kicker();
            std::thread::scope(|scope| {
                scope.spawn(move || while kicker.kick().is_ok() {});
                let mut bounded = bounded;
                let _ = bounded
                    .run_until(Deadline::after(Duration::from_micros(20)))
                    .unwrap();
            });
            let left = u64::from_str_radix(&common::pending_signals(), 16).unwrap();
            assert_eq!(left, 0, "a signal was left behind");
        }
    });
}
