//! A deadline that cannot be set must not make an earlier one be forgotten. The limit of timers is
//! the whole process's, so this test has one to itself.

mod common;

use std::time::Duration;

use common::{OUT_LOOP, each_bounded, exited};
use kvm_preemption_timer::{Deadline, Error, MonotonicTime, Outcome};

#[test]
fn the_deadline_of_before_still_holds() {
    each_bounded(OUT_LOOP, |mut vcpu| {
        let deadline = MonotonicTime::now() + Duration::from_millis(100);
        exited(vcpu.run_until(deadline));

        let restore = common::foreign::allow_no_more_queued_signals();
        let cpu_time = Deadline::after_cpu(Duration::from_secs(1));
        let error = vcpu.run_until(cpu_time).unwrap_err();
        restore();
        assert!(matches!(error, Error::TimerLimit { .. }), "{error}");

        // This guest exits all the time, so a deadline that was lost shows without a hang.
        let give_up = MonotonicTime::now() + Duration::from_secs(30);
        loop {
            match vcpu.run_until(deadline).unwrap() {
                Outcome::Exit(_) => assert!(MonotonicTime::now() < give_up, "deadline lost"),
                Outcome::Expired(_) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(MonotonicTime::now() >= deadline);
    });
}
