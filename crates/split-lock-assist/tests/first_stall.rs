//! Nothing is set up in the run in which a vCPU stalls for the first time. In a process of its own: tables are built once.

use std::time::Duration;

use kvm_preemption_timer::ThreadCpuTime;
use split_lock_assist::cpu::{Context, Registers};
use split_lock_assist::decode::decode;
use split_lock_assist::guard::{Config, Reaction, VcpuGuard};

fn cpu_time_of(act: impl FnOnce()) -> Duration {
    let before = ThreadCpuTime::now().as_nanos();
    act();
    Duration::from_nanos(ThreadCpuTime::now().as_nanos() - before)
}

fn guard(reaction: Reaction) -> VcpuGuard {
    VcpuGuard::new(Config::new(reaction))
}

/// Where each of the three would build the tables, it would take many times as long as where it would not.
#[test]
fn tables_are_built_when_the_first_guard_is_made_that_looks_at_anything() {
    let off = cpu_time_of(|| drop(guard(Reaction::Off)));
    let made = cpu_time_of(|| drop(guard(Reaction::Report)));
    let stalled = cpu_time_of(|| {
        let lock_inc = [0xf0, 0xff, 0x06];
        let decoded = decode(&lock_inc, &Registers::default(), &Context::long_mode(3));
        assert!(decoded.to_string().contains("inc"), "{decoded}");
    });
    assert!(
        off * 4 < made && stalled * 4 < made,
        "{off:?}, {made:?}, {stalled:?}"
    );
}
