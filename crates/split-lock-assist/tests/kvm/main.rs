//! Real vCPUs.
//!
//! Hardly any machine that tests run on detects split locks. A stall is therefore told to the guard,
//! by runs that had hardly any CPU time, while the vCPU stands at the instruction; everything from
//! there on is real.

mod breakpoints;
mod churn;
mod nested;
mod several;
mod shared_page;
mod state;
mod vm;
mod walk;

use std::time::Duration;

use kvm_ioctls::Kvm;
use split_lock_assist::guard::{Config, Ended, Reaction, Response, Run, VcpuGuard, VcpuProgress};
use split_lock_assist::guest_ram::GuestRam;
use split_lock_assist::kvm::{BreakpointSupport, KvmVcpu};
use split_lock_assist::pause::Pause;

use vm::TestVm;

/// Puts the split lock of this guest behind it, counts in RCX and ends with a port write after RDX
/// turns:
/// ```text
/// 0: lock inc qword ptr [rsi]
/// 4: inc rcx
///    dec rdx
///    jnz 0
///    out 0x10, al
/// ```
const INCREMENT: &[u8] = &[
    0xf0, 0x48, 0xff, 0x06, 0x48, 0xff, 0xc1, 0x48, 0xff, 0xca, 0x75, 0xf4, 0xe6, 0x10,
];
const DONE_PORT: u16 = 0x10;

fn emulating() -> VcpuGuard {
    VcpuGuard::new(Config::new(Reaction::Emulate))
}

/// The privilege levels at which breakpoints work here.
fn supported_levels(kvm: &Kvm) -> (BreakpointSupport, Vec<u8>) {
    let support = BreakpointSupport::probe(kvm).unwrap();
    let levels = [0, 3].into_iter().filter(|&cpl| support.at(cpl).is_some());
    (support, levels.collect())
}

/// Tells the guard of a run in which the vCPU has got no further than it is.
fn stalled_run(
    guard: &mut VcpuGuard,
    vcpu: &mut KvmVcpu,
    vm: &TestVm,
    others: &impl Pause,
) -> VcpuProgress {
    let run = Run {
        wall: guard.budget(Duration::from_millis(1)),
        cpu: Duration::from_micros(5),
        ended: Ended::Expired,
    };
    let mut parts = vcpu.stopped(GuestRam::new(&vm.memory), others);
    guard.after_run(&run, &mut parts).unwrap()
}

/// And of as many as it takes to be sure.
fn stall(
    guard: &mut VcpuGuard,
    vcpu: &mut KvmVcpu,
    vm: &TestVm,
    others: &impl Pause,
) -> VcpuProgress {
    let first = stalled_run(guard, vcpu, vm, others);
    assert_eq!(first, VcpuProgress::Starved);
    punish();
    stalled_run(guard, vcpu, vm, others)
}

/// What the kernel would do to the thread, shorter.
fn punish() {
    std::thread::sleep(Duration::from_millis(1));
}

/// The response to a stall.
fn response(progress: &VcpuProgress) -> Response {
    progress.stall().expect("it is a stall").response
}
