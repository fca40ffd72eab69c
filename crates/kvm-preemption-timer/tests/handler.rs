//! The signal handler belongs to the whole process, so this test has one to itself.

mod common;

use std::time::Duration;

use common::{SPIN, caught_signals, expired, vm};
use kvm_preemption_timer::{Config, Deadline, PreemptibleVcpu, Signal};

#[test]
fn the_handler_is_installed_while_it_is_needed_and_no_longer() {
    let Some((_vm, mut vcpus)) = vm(SPIN, 2) else {
        return;
    };
    let signal = Signal::realtime(9).unwrap();
    let config = Config::new().signal(signal);
    let before = caught_signals();
    let mut first = vcpus.remove(0);
    let second = vcpus.remove(0);
    let bounded = PreemptibleVcpu::with_config(&mut first, config).unwrap();
    assert_ne!(caught_signals(), before);
    let on_another_thread = move || {
        let mut bounded = PreemptibleVcpu::with_config(second, config).unwrap();
        expired(bounded.run_until(Deadline::after(Duration::from_micros(100))));
    };
    std::thread::spawn(on_another_thread).join().unwrap();
    assert_ne!(caught_signals(), before, "one vCPU still needs it");
    drop(bounded);
    assert_eq!(caught_signals(), before);
}
