//! The emulated host on real KVM. Skipped without KVM, as the other tests are.
//!
//! Ticks and timers are real here, so that these tests run one after the other: two CPUs do not
//! suffice for more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kvm_ioctls::Kvm;
use split_lock_repro::guest::{Guest, Level};
use split_lock_repro::host::Kernel;
use split_lock_repro::vm::{Vcpu, Vm};

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/runs.rs"]
mod runs;

mod fidelity;
mod guard;
mod rules;
mod two_tasks;

use common::{LEVELS, detects_split_locks, file_guest, guest, kvm};

/// The machine, for as long as it is held.
struct Machine {
    kvm: Kvm,
    _alone: MutexGuard<'static, ()>,
}

/// `None` without KVM.
fn machine() -> Option<Machine> {
    static MACHINE: Mutex<()> = Mutex::new(());
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    kvm().map(|kvm| Machine { kvm, _alone })
}

/// The same where the real host leaves split locks alone.
fn undetecting() -> Option<Machine> {
    machine().filter(|_| !detects_split_locks())
}

/// A kernel, and the vCPUs that can run `guest` on it.
fn emulated_host<const VCPUS: usize>(
    kvm: &Kvm,
    guest: &Guest,
    level: Level,
    kernel: &str,
) -> (Arc<Kernel>, [Vcpu; VCPUS]) {
    let kernel = Kernel::new(kernel.parse().unwrap(), VCPUS as u32);
    let mut vm = Vm::new(kvm).unwrap();
    let vcpus = [(); VCPUS].map(|()| match level {
        Level::Cpl3 => vm.add_vcpu_that_checks_alignment(guest).unwrap(),
        Level::Cpl0 => vm.add_vcpu(guest, level).unwrap(),
    });
    (Arc::new(kernel), vcpus)
}
