//! vCPUs on different threads do not disturb each other.

mod common;

use std::time::Duration;

use common::{BOTH_MECHANISMS, SPIN, config, vm};
use kvm_preemption_timer::{Deadline, MonotonicTime, Outcome, PreemptibleVcpu};

#[test]
fn two_threads_keep_their_own_deadlines_and_kicks() {
    for mechanism in BOTH_MECHANISMS {
        let Some((_vm, vcpus)) = vm(SPIN, 2) else {
            return;
        };
        let (kickers, kickers_out) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            for (vcpu, budget_us) in vcpus.into_iter().zip([70, 900]) {
                let kickers = kickers.clone();
                scope.spawn(move || {
                    let mut vcpu = PreemptibleVcpu::with_config(vcpu, config(mechanism)).unwrap();
                    for _ in 0..1_800_000 / (budget_us * 10) {
                        let deadline = MonotonicTime::now() + Duration::from_micros(budget_us);
                        let outcome = vcpu.run_until(deadline).unwrap();
                        assert!(matches!(outcome, Outcome::Expired(_)), "{outcome:?}");
                        assert!(MonotonicTime::now() >= deadline);
                    }
                    kickers.send(vcpu.kicker()).unwrap();
                    // Each waits for its own kick.
                    let kicked = vcpu
                        .run_until(Deadline::after(Duration::from_secs(20)))
                        .unwrap();
                    assert!(matches!(kicked, Outcome::Kicked), "{kicked:?}");
                });
            }
            for kicker in kickers_out.iter().take(2) {
                kicker.kick().unwrap();
            }
        });
    }
}
