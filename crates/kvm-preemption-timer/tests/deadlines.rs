//! Runs end at their deadline: never before, and always.

mod common;

use std::time::Duration;

use common::{BOTH_MECHANISMS, COUNT, OUT_LOOP, Random, SPIN, config, one_vcpu};
use kvm_ioctls::VcpuExit;
use kvm_preemption_timer::{
    Deadline, MonotonicTime, Outcome, PeriodicDeadlines, PreemptibleVcpu, ThreadCpuTime,
};

fn us(n: u64) -> Duration {
    Duration::from_micros(n)
}

#[test]
fn a_spinning_guest_is_never_stopped_early_and_always_stopped() {
    for mechanism in BOTH_MECHANISMS {
        let Some((_vm, vcpu)) = one_vcpu(SPIN) else {
            return;
        };
        let mut vcpu = PreemptibleVcpu::with_config(vcpu, config(mechanism)).unwrap();
        let mut random = Random::new(1);
        for _ in 0..2000 {
            let deadline = MonotonicTime::now() + us(random.below(300));
            let Outcome::Expired(expiry) = vcpu.run_until(deadline).unwrap() else {
                panic!("a guest without exits had one");
            };
            assert!(MonotonicTime::now() >= deadline + expiry.overshoot);
            assert_eq!(expiry.deadline, Deadline::Wall(deadline));
        }
    }
}

#[test]
fn a_guest_that_exits_all_the_time_is_stopped_all_the_same() {
    for mechanism in BOTH_MECHANISMS {
        let Some((_vm, vcpu)) = one_vcpu(OUT_LOOP) else {
            return;
        };
        let mut vcpu = PreemptibleVcpu::with_config(vcpu, config(mechanism)).unwrap();
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
    }
}

#[test]
fn a_deadline_that_has_passed_lets_the_guest_execute_nothing_however_often() {
    for mechanism in BOTH_MECHANISMS {
        let Some((_vm, vcpu)) = one_vcpu(COUNT) else {
            return;
        };
        let mut vcpu = PreemptibleVcpu::with_config(vcpu, config(mechanism)).unwrap();
        let passed = MonotonicTime::now();
        let before = vcpu.vcpu().get_regs().unwrap();
        for deadline in [passed, passed, MonotonicTime::from_nanos(0), passed] {
            let outcome = vcpu.run_until(deadline).unwrap();
            assert!(matches!(outcome, Outcome::Expired(_)), "{outcome:?}");
        }
        assert_eq!(vcpu.vcpu().get_regs().unwrap(), before);
    }
}

#[test]
fn a_deadline_can_be_moved_either_way_and_taken_back() {
    for mechanism in BOTH_MECHANISMS {
        let Some((_vm, vcpu)) = one_vcpu(OUT_LOOP) else {
            return;
        };
        let mut vcpu = PreemptibleVcpu::with_config(vcpu, config(mechanism)).unwrap();
        // Each of these is left before it expires, so it must not end the runs that follow.
        let soon = Deadline::after(us(20_000));
        assert!(matches!(vcpu.run_until(soon).unwrap(), Outcome::Exit(_)));
        std::thread::sleep(us(25_000));
        for _ in 0..50 {
            let never = vcpu.run_until(Deadline::Never).unwrap();
            assert!(matches!(never, Outcome::Exit(_)), "{never:?}");
            let far = Deadline::after(Duration::from_secs(3600));
            let outcome = vcpu.run_until(far).unwrap();
            assert!(matches!(outcome, Outcome::Exit(_)), "{outcome:?}");
        }
    }
}

#[test]
fn cpu_time_is_counted_instead_of_wall_time_where_asked() {
    for mechanism in BOTH_MECHANISMS {
        let Some((_vm, vcpu)) = one_vcpu(SPIN) else {
            return;
        };
        let mut vcpu = PreemptibleVcpu::with_config(vcpu, config(mechanism)).unwrap();
        for _ in 0..3 {
            let deadline = ThreadCpuTime::now() + us(50_000);
            // Sleeping does not use it up.
            std::thread::sleep(us(80_000));
            assert!(ThreadCpuTime::now() < deadline);
            let outcome = vcpu.run_until(deadline).unwrap();
            assert!(matches!(outcome, Outcome::Expired(_)), "{outcome:?}");
            assert!(ThreadCpuTime::now() >= deadline);
        }
        // And back to the other clock.
        let outcome = vcpu.run_until(Deadline::after(us(100))).unwrap();
        assert!(matches!(outcome, Outcome::Expired(_)), "{outcome:?}");
    }
}

#[test]
fn quanta_stay_on_their_grid_while_the_guest_runs() {
    let Some((_vm, vcpu)) = one_vcpu(SPIN) else {
        return;
    };
    let mut vcpu = PreemptibleVcpu::new(vcpu).unwrap();
    let period = us(300);
    let start = MonotonicTime::now();
    let mut deadlines = PeriodicDeadlines::new(Deadline::Wall(start), period).unwrap();
    for quantum in 0..200u32 {
        if quantum == 100 {
            std::thread::sleep(us(2000));
        }
        let Outcome::Expired(expiry) = vcpu.run_until(deadlines.deadline()).unwrap() else {
            panic!("a guest without exits had one");
        };
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
    for mechanism in BOTH_MECHANISMS {
        let vm = kvm.create_vm().unwrap();
        vm.create_irq_chip().unwrap();
        let _first = vm.create_vcpu(0).unwrap();
        let second = vm.create_vcpu(1).unwrap();
        let mut second = PreemptibleVcpu::with_config(second, config(mechanism)).unwrap();
        let deadline = MonotonicTime::now() + us(3000);
        let outcome = second.run_until(deadline).unwrap();
        assert!(matches!(outcome, Outcome::Expired(_)), "{outcome:?}");
        second.kicker().kick().unwrap();
        let outcome = second.run_until(Deadline::Never).unwrap();
        assert!(matches!(outcome, Outcome::Kicked), "{outcome:?}");
    }
}
