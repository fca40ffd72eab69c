//! Opening KVM, and finding out early what it cannot do.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use kvm_ioctls::{Cap, Kvm};

use super::VmError;

/// Where KVM is, on every Linux.
pub const KVM_DEVICE: &str = "/dev/kvm";

/// The version of KVM's interface; it has been this one since 2007.
const API_VERSION: i32 = 12;

const NEEDED: [(Cap, &str, &str); 3] = [
    (
        Cap::UserMemory,
        "KVM_CAP_USER_MEMORY",
        "to give the guest memory",
    ),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID", "to run 64-bit guests"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR", "on Intel CPUs"),
];

/// Opens KVM (usually [`KVM_DEVICE`]) and checks that it can run our guests.
///
/// ```no_run
/// use std::path::Path;
/// use split_lock_repro::vm::{KVM_DEVICE, open_kvm};
///
/// let kvm = open_kvm(Path::new(KVM_DEVICE))?;
/// # Ok::<(), split_lock_repro::vm::VmError>(())
/// ```
///
/// # Errors
/// If there is no KVM, no permission, or something missing in it; each says what to do.
pub fn open_kvm(path: &Path) -> Result<Kvm, VmError> {
    let c_path = CString::new(path.as_os_str().as_bytes())
        .map_err(|error| open_error(path, error.into()))?;
    let kvm = Kvm::new_with_path(c_path).map_err(|error| open_error(path, error.into()))?;
    check_version(path, kvm.get_api_version())?;
    for (capability, name, purpose) in NEEDED {
        if !kvm.check_extension(capability) {
            return Err(VmError::MissingCapability { name, purpose });
        }
    }
    Ok(kvm)
}

fn open_error(path: &Path, source: io::Error) -> VmError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => VmError::NoDevice { path },
        io::ErrorKind::PermissionDenied => VmError::NotPermitted { path },
        _ => VmError::Open { path, source },
    }
}

fn check_version(path: &Path, found: i32) -> Result<(), VmError> {
    let path = path.to_owned();
    match found {
        API_VERSION => Ok(()),
        ..0 => Err(VmError::NotKvm { path }),
        _ => Err(VmError::ApiVersion {
            path,
            found,
            needed: API_VERSION,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &str) -> String {
        let error = open_kvm(Path::new(path)).unwrap_err().to_string();
        assert!(error.contains(path), "{error}");
        error
    }

    #[test]
    fn without_a_device_the_modules_are_named() {
        assert!(refusal("/nonexistent/kvm").contains("kvm_intel"));
    }

    #[test]
    fn another_file_is_not_taken_for_kvm() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for other in ["/dev/null", file.path().to_str().unwrap()] {
            assert!(refusal(other).contains("is not a KVM device"));
        }
    }

    #[test]
    fn a_directory_cannot_be_opened() {
        assert!(refusal("/tmp").contains("directory"));
    }

    #[test]
    fn without_permission_the_group_is_named() {
        // Root may open everything, so the system's answer is given instead of asked for.
        let error = open_error(
            Path::new(KVM_DEVICE),
            io::Error::from(io::ErrorKind::PermissionDenied),
        );
        assert!(error.to_string().contains("kvm group"), "{error}");
    }

    #[test]
    fn another_version_is_refused_with_its_number() {
        let error = check_version(Path::new(KVM_DEVICE), 13).unwrap_err();
        assert!(error.to_string().contains("version 13"), "{error}");
    }
}
