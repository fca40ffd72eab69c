//! vCPUs on different threads do not disturb each other.

mod common;

use std::time::Duration;

use common::{SPIN, both_configs, expired, far_deadline, kicked, vm};
use kvm_preemption_timer::{MonotonicTime, PreemptibleVcpu};

#[test]
fn two_threads_keep_their_own_deadlines_and_kicks() {
    for config in both_configs() {
        let Some((_vm, vcpus)) = vm(SPIN, 2) else {
            return;
        };
        let (kickers, kickers_out) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            for (vcpu, budget_us) in vcpus.into_iter().zip([70, 900]) {
                let kickers = kickers.clone();
                scope.spawn(move || {
                    let mut vcpu = PreemptibleVcpu::with_config(vcpu, config).unwrap();
                    for _ in 0..1_800_000 / (budget_us * 10) {
                        let deadline = MonotonicTime::now() + Duration::from_micros(budget_us);
                        expired(vcpu.run_until(deadline));
                        assert!(MonotonicTime::now() >= deadline);
                    }
                    kickers.send(vcpu.kicker()).unwrap();
                    // Each waits for its own kick.
                    kicked(vcpu.run_until(far_deadline()));
                });
            }
            for kicker in kickers_out.iter().take(2) {
                kicker.kick().unwrap();
            }
        });
    }
}
