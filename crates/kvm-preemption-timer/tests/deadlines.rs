//! Runs end at their deadline: never before, and always.

mod common;

use std::time::Duration;

use common::{
    COUNT, OUT_LOOP, SPIN, both_configs, each_bounded, exited, expired, kicked, one_vcpu,
};
use kvm_ioctls::VcpuExit;
use kvm_preemption_timer::{
    Deadline, MonotonicTime, Outcome, PeriodicDeadlines, PreemptibleVcpu, ThreadCpuTime,
};
use split_lock_model::random::SplitMix64;

fn us(n: u64) -> Duration {
    Duration::from_micros(n)
}

#[test]
fn a_spinning_guest_is_never_stopped_early_and_always_stopped() {
    each_bounded(SPIN, |mut vcpu| {
        let mut random = SplitMix64::new(1);
        for _ in 0..2000 {
            let deadline = MonotonicTime::now() + us(random.below(300));
            let expiry = expired(vcpu.run_until(deadline));
            assert!(MonotonicTime::now() >= deadline + expiry.overshoot);
            assert_eq!(expiry.deadline, Deadline::Wall(deadline));
        }
    });
}

#[test]
fn a_guest_that_exits_all_the_time_is_stopped_all_the_same() {
    each_bounded(OUT_LOOP, |mut vcpu| {
        for budget in [0, 1, 50, 1000, 20_000] {
            let deadline = MonotonicTime::now() + us(budget);
            let mut exits = 0;
            loop {
                match vcpu.run_until(deadline).unwrap() {
                    Outcome::Exit(VcpuExit::IoOut(0x10, _)) => exits += 1,
                    Outcome::Expired(_) => break,
                    other => panic!("{other:?}"),
                }
            }
            assert!(MonotonicTime::now() >= deadline);
            assert!(exits > 0 || budget < 20_000, "the guest did not run at all");
        }
    });
}

#[test]
fn a_deadline_that_has_passed_lets_the_guest_execute_nothing_however_often() {
    each_bounded(COUNT, |mut vcpu| {
        let passed = MonotonicTime::now();
        let before = vcpu.vcpu().get_regs().unwrap();
        for deadline in [passed, passed, MonotonicTime::from_nanos(0), passed] {
            expired(vcpu.run_until(deadline));
        }
        assert_eq!(vcpu.vcpu().get_regs().unwrap(), before);
    });
}

#[test]
fn a_deadline_can_be_moved_either_way_and_taken_back() {
    each_bounded(OUT_LOOP, |mut vcpu| {
        // Each of these is left before it expires, so it must not end the runs that follow.
        let soon = Deadline::after(us(20_000));
        exited(vcpu.run_until(soon));
        std::thread::sleep(us(25_000));
        for _ in 0..50 {
            exited(vcpu.run_until(Deadline::Never));
            exited(vcpu.run_until(Deadline::after(Duration::from_secs(3600))));
        }
    });
}

#[test]
fn cpu_time_is_counted_instead_of_wall_time_where_asked() {
    each_bounded(SPIN, |mut vcpu| {
        for _ in 0..3 {
            let deadline = ThreadCpuTime::now() + us(50_000);
            // Sleeping does not use it up.
            std::thread::sleep(us(80_000));
            assert!(ThreadCpuTime::now() < deadline);
            expired(vcpu.run_until(deadline));
            assert!(ThreadCpuTime::now() >= deadline);
        }
        // And back to the other clock.
        expired(vcpu.run_until(Deadline::after(us(100))));
    });
}

#[test]
fn periodic_deadlines_stay_on_their_grid_while_the_guest_runs() {
    let Some((_vm, vcpu)) = one_vcpu(SPIN) else {
        return;
    };
    let mut vcpu = PreemptibleVcpu::new(vcpu).unwrap();
    let period = us(300);
    let start = MonotonicTime::now();
    let mut deadlines = PeriodicDeadlines::new(Deadline::Wall(start), period).unwrap();
    for period_number in 0..200 {
        if period_number == 100 {
            std::thread::sleep(us(2000));
        }
        let expiry = expired(vcpu.run_until(deadlines.deadline()));
        deadlines.advance(&expiry);
        let Deadline::Wall(next) = deadlines.deadline() else {
            panic!("the clock has changed");
        };
        assert_eq!(
            next.saturating_since(start).as_nanos() % period.as_nanos(),
            0
        );
    }
    assert!(
        deadlines.missed() >= 5,
        "2 ms at 300 us are more than five deadlines"
    );
}

/// A processor that waits to be started by another one is not in the guest at all.
#[test]
fn a_vcpu_that_waits_to_be_started_is_stopped_as_well() {
    let Some(kvm) = common::kvm_or_skip() else {
        return;
    };
    for config in both_configs() {
        let vm = kvm.create_vm().unwrap();
        vm.create_irq_chip().unwrap();
        let _first = vm.create_vcpu(0).unwrap();
        let second = vm.create_vcpu(1).unwrap();
        let mut second = PreemptibleVcpu::with_config(second, config).unwrap();
        let deadline = MonotonicTime::now() + us(3000);
        expired(second.run_until(deadline));
        second.kicker().kick().unwrap();
        kicked(second.run_until(Deadline::Never));
    }
}
