//! A process that is forked off has a copy of the binding, and must not touch what is its parent's.
//! The only test of its process, so that nobody holds a lock while it forks.

mod common;

use std::time::Duration;

use common::foreign::{OwnRunPage, descriptor, in_a_fork};
use common::{SPIN, both_configs, far_deadline, interruption, one_vcpu, run_to_the_end};
use kvm_preemption_timer::{Deadline, Error, Interruption, KickError, VcpuBinding};

fn main() {
    for config in both_configs() {
        let Some((_vm, mut vcpu)) = one_vcpu(SPIN) else {
            return;
        };
        let own = OwnRunPage::map(descriptor(&vcpu));
        let mut binding = VcpuBinding::of_with_config(&vcpu, config).unwrap();
        let kicker = binding.kicker();
        run_to_the_end(
            &mut binding,
            &mut vcpu,
            Deadline::after(Duration::from_millis(1)),
        );

        // The deadline and the kick are pending while the child does its worst.
        let deadline = Deadline::after(Duration::from_millis(1));
        binding.arm(deadline).unwrap();
        kicker.kick().unwrap();
        std::thread::sleep(Duration::from_millis(2));
        let pending = own.immediate_exit();
        let mut slot = Some(binding);
        in_a_fork(|| {
            let mut binding = slot.take().unwrap();
            let error = kicker.kick().unwrap_err();
            assert!(matches!(error, KickError::Forked), "{error}");
            assert!(!error.to_string().contains("RLIMIT"), "{error}");
            let error = binding.arm(far_deadline()).unwrap_err();
            assert!(matches!(error, Error::Forked), "{error}");
        });
        let mut binding = slot.take().unwrap();
        assert_eq!(own.immediate_exit(), pending, "the child has changed it");
        let mut ends = [deadline; 2].map(|at| interruption(&mut binding, &mut vcpu, at));
        ends.sort_by_key(|end| matches!(end, Interruption::Kicked(_)));
        let both = matches!(ends, [Interruption::Expired(_), Interruption::Kicked(_)]);
        assert!(both, "{ends:?}");
        let soon = Deadline::after(Duration::from_millis(1));
        run_to_the_end(&mut binding, &mut vcpu, soon);
    }
    println!("test a_fork_leaves_its_parents_vcpu_alone ... ok");
}
