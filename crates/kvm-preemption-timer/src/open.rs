//! Opening KVM, with an answer that helps when it cannot be.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use kvm_ioctls::{Cap, Kvm};

use crate::Error;

/// The version of KVM's API that has been the only one since Linux 2.6.22.
const KVM_API_VERSION: i32 = 12;

/// Opens `/dev/kvm` and checks that it can do what this crate needs.
///
/// # Errors
/// [`Error::NoKvm`], [`Error::KvmPermission`], [`Error::OpenKvm`], [`Error::KvmApiVersion`] or
/// [`Error::MissingCapability`].
///
/// ```
/// match kvm_preemption_timer::open_kvm() {
///     Ok(kvm) => println!("KVM runs up to {} vCPUs", kvm.get_max_vcpus()),
///     Err(error) => println!("{error}"),
/// }
/// ```
pub fn open_kvm() -> Result<Kvm, Error> {
    open_kvm_at(Path::new("/dev/kvm"))
}

/// Opens a KVM device at another place, as sandboxes have it.
///
/// # Errors
/// As [`open_kvm`].
pub fn open_kvm_at(path: &Path) -> Result<Kvm, Error> {
    let kvm = open_device(path)?;
    let found = kvm.get_api_version();
    if found != KVM_API_VERSION {
        return Err(Error::KvmApiVersion {
            path: path.into(),
            found,
        });
    }
    if !kvm.check_extension(Cap::ImmediateExit) {
        return Err(Error::MissingCapability {
            capability: "KVM_CAP_IMMEDIATE_EXIT (Linux 4.13)",
            needed_for: "completing I/O without running the guest",
        });
    }
    Ok(kvm)
}

fn open_device(path: &Path) -> Result<Kvm, Error> {
    let open_error = |source: io::Error| {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::NotFound => Error::NoKvm { path },
            io::ErrorKind::PermissionDenied => Error::KvmPermission { path },
            _ => Error::OpenKvm { path, source },
        }
    };
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|error| open_error(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    Kvm::new_with_path(&name).map_err(|error| open_error(error.into()))
}
