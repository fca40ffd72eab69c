//! The guests on real KVM. Without KVM these tests say why they do nothing; where it must be there,
//! set `SPLITLOCK_REQUIRE_KVM=1` and they fail instead.

use std::env;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use kvm_ioctls::Kvm;
use split_lock_repro::guest::{FileOptions, Guest, GuestFile};
use split_lock_repro::vm::{ExitCause, KVM_DEVICE, Level, UnexpectedExit, Vcpu, Vm, open_kvm};

mod alignment;
mod bounded;
mod built_in;
mod contend;
mod exits;
mod fidelity;
mod files;
mod host;
mod neighbours;
mod sparse;
mod sweep;
mod two_tasks;

const LEVELS: [Level; 2] = [Level::Cpl3, Level::Cpl0];

/// KVM, if it is there.
fn kvm() -> Option<Kvm> {
    match open_kvm(Path::new(KVM_DEVICE)) {
        Ok(kvm) => Some(kvm),
        Err(error) if env::var_os("SPLITLOCK_REQUIRE_KVM").is_some_and(|value| value == "1") => {
            panic!("SPLITLOCK_REQUIRE_KVM is set: {error}")
        }
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// On a host that detects split locks a splitting guest makes hardly any progress, or none, which is
/// the point of the project: nothing can be asserted about how much.
fn detects_split_locks() -> bool {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let detects = cpuinfo.contains("split_lock_detect");
    if detects {
        eprintln!("skipped: this host detects split locks");
    }
    detects
}

fn guest(name: &str) -> Guest {
    Guest::find(name, FileOptions::default()).unwrap()
}

fn file_guest(code: &[u8], options: FileOptions) -> Guest {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(code).unwrap();
    GuestFile::read(file.path(), options).unwrap().into()
}

/// One vCPU in a VM of its own.
fn vcpu(kvm: &Kvm, guest: &Guest, level: Level) -> Vcpu {
    let mut vm = Vm::new(kvm).unwrap();
    vm.add_vcpu(guest, level).unwrap()
}

/// The turns that a guest makes from its start in `milliseconds`, or what went wrong.
fn turns_in(vcpu: &mut Vcpu, milliseconds: u64) -> Result<u64, UnexpectedExit> {
    vcpu.seat.reset(&vcpu.fd).unwrap();
    match bounded::run_for(&mut vcpu.fd, Duration::from_millis(milliseconds)) {
        (_, None) => Ok(vcpu.seat.turns(&vcpu.fd).unwrap()),
        (_, Some(cause)) => Err(unexpected(vcpu, cause)),
    }
}

fn unexpected(vcpu: &mut Vcpu, cause: ExitCause) -> UnexpectedExit {
    vcpu.seat.unexpected_exit(&mut vcpu.fd, cause)
}
