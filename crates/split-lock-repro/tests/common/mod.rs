//! What all tests on KVM need.

use std::env;
use std::io::Write;
use std::path::Path;

use kvm_ioctls::Kvm;
use split_lock_repro::guest::{FileOptions, Guest, GuestFile, Level};
use split_lock_repro::vm::{KVM_DEVICE, open_kvm};

pub(crate) const LEVELS: [Level; 2] = [Level::Cpl3, Level::Cpl0];

/// KVM, if it is there.
pub(crate) fn kvm() -> Option<Kvm> {
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
pub(crate) fn detects_split_locks() -> bool {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let detects = cpuinfo.contains("split_lock_detect");
    if detects {
        eprintln!("skipped: this host detects split locks");
    }
    detects
}

pub(crate) fn guest(name: &str) -> Guest {
    Guest::find(name, FileOptions::default()).unwrap()
}

/// A flat binary that counts in RCX.
pub(crate) fn file_guest(code: &[u8]) -> Guest {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(code).unwrap();
    let guest = GuestFile::read(file.path(), FileOptions::default());
    guest.unwrap().into()
}
