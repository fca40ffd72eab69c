//! The lower layer alone: a vCPU that is nothing but a file descriptor, and the VMM's own KVM_RUN.

mod common;

use std::os::fd::BorrowedFd;
use std::time::Duration;

use common::foreign::{descriptor, kvm_run};
use common::{OUT_LOOP, SPIN, each_mechanism};
use kvm_preemption_timer::{Deadline, Interruption, KickReasons, MonotonicTime, VcpuBinding};

/// `None` after a guest exit.
fn run(
    binding: &mut VcpuBinding,
    vcpu: BorrowedFd<'_>,
    deadline: impl Into<Deadline>,
) -> Option<Interruption> {
    binding.arm(deadline).unwrap();
    match kvm_run(vcpu) {
        Ok(()) => None,
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::EINTR), "{error}");
            Some(binding.interrupted())
        }
    }
}

#[test]
fn deadlines_and_kicks_end_runs() {
    each_mechanism(SPIN, |config, vcpu| {
        let vcpu = descriptor(&vcpu);
        let mut binding = VcpuBinding::with_config(vcpu, config).unwrap();
        for microseconds in (0..300).rev() {
            let deadline = MonotonicTime::now() + Duration::from_micros(microseconds);
            // What is left of an earlier deadline is nobody's, and may come first.
            let end = std::iter::repeat_with(|| run(&mut binding, vcpu, deadline))
                .find(|end| *end != Some(Interruption::Other));
            assert!(
                matches!(end, Some(Some(Interruption::Expired(_)))),
                "{end:?}"
            );
            assert!(MonotonicTime::now() >= deadline);
            binding.kicker().kick_for(KickReasons::number(5)).unwrap();
            let end = run(&mut binding, vcpu, Deadline::Never);
            assert_eq!(end, Some(Interruption::Kicked(KickReasons::number(5))));
        }
    });
}

#[test]
fn exits_neither_end_nor_prolong_the_budget() {
    each_mechanism(OUT_LOOP, |config, vcpu| {
        let vcpu = descriptor(&vcpu);
        let mut binding = VcpuBinding::with_config(vcpu, config).unwrap();
        let deadline = MonotonicTime::now() + Duration::from_millis(20);
        let mut exits = 0;
        while run(&mut binding, vcpu, deadline).is_none() {
            exits += 1;
        }
        assert!(MonotonicTime::now() >= deadline);
        assert!(exits > 0, "the guest did not run at all");
    });
}

#[test]
fn the_vcpu_may_be_closed_before_its_binding_is_dropped() {
    each_mechanism(SPIN, |config, vcpu| {
        let binding = VcpuBinding::with_config(descriptor(&vcpu), config).unwrap();
        drop(vcpu);
        drop(binding);
    });
}
