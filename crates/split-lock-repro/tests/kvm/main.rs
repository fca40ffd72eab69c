//! The guests on real KVM. Without KVM these tests say why they do nothing; where it must be there,
//! set `SPLITLOCK_REQUIRE_KVM=1` and they fail instead.

use std::time::Duration;

use kvm_ioctls::Kvm;
use split_lock_repro::guest::Guest;
use split_lock_repro::guest::Level;
use split_lock_repro::vm::{ExitCause, UnexpectedExit, Vcpu, Vm};

use common::{LEVELS, detects_split_locks, file_guest, guest, kvm};

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/runs.rs"]
mod runs;

mod alignment;
mod bounded;
mod built_in;
mod contend;
mod exits;
mod files;
mod neighbours;
mod sparse;
mod sweep;
mod two_tasks;

/// One vCPU in a VM of its own.
fn vcpu(kvm: &Kvm, guest: &Guest, level: Level) -> Vcpu {
    let mut vm = Vm::new(kvm).unwrap();
    vm.add_vcpu(guest, level).unwrap()
}

/// The turns that a guest makes from its start in `milliseconds`, or what went wrong.
fn turns_in(vcpu: &mut Vcpu, milliseconds: u64) -> Result<u64, UnexpectedExit> {
    vcpu.slot.reset(&vcpu.fd).unwrap();
    match bounded::run_for(&mut vcpu.fd, Duration::from_millis(milliseconds)) {
        (_, None) => Ok(vcpu.slot.turns(&vcpu.fd).unwrap()),
        (_, Some(cause)) => Err(unexpected(vcpu, cause)),
    }
}

fn unexpected(vcpu: &mut Vcpu, cause: ExitCause) -> UnexpectedExit {
    vcpu.slot.unexpected_exit(&mut vcpu.fd, cause)
}
