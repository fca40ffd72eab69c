//! Every error says what was tried, on what, and what to do.

mod common;

use std::path::Path;

use common::{SPIN, both_configs, one_vcpu};
use kvm_preemption_timer::{Error, PreemptibleVcpu, open_kvm_at};

#[test]
fn a_missing_device_names_the_modules() {
    let error = open_kvm_at(Path::new("/nonexistent/kvm")).unwrap_err();
    assert!(matches!(error, Error::NoKvm { .. }));
    let text = error.to_string();
    assert!(
        text.contains("/nonexistent/kvm") && text.contains("kvm_intel"),
        "{text}"
    );
}

#[test]
fn something_that_is_not_kvm_is_not_taken_for_it() {
    let error = open_kvm_at(Path::new("/dev/null")).unwrap_err();
    assert!(
        matches!(error, Error::KvmApiVersion { found: -1, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("/dev/null"), "{error}");
}

#[test]
fn a_directory_cannot_be_opened_as_kvm() {
    let error = open_kvm_at(Path::new("/proc")).unwrap_err();
    assert!(matches!(error, Error::OpenKvm { .. }), "{error}");
    let error = open_kvm_at(Path::new("a\0b")).unwrap_err();
    assert!(matches!(error, Error::OpenKvm { .. }), "{error}");
}

#[test]
fn permission_is_asked_for_by_name() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let nobody = std::os::unix::fs::PermissionsExt::from_mode(0o000);
    file.as_file().set_permissions(nobody).unwrap();
    let error = common::foreign::without_root(|| open_kvm_at(file.path()).unwrap_err());
    let text = error.to_string();
    assert!(matches!(error, Error::KvmPermission { .. }), "{text}");
    assert!(text.contains("usermod -aG kvm"), "{text}");
}

/// The limit is the whole process's, so this is the only test in this file that makes timers.
#[test]
fn the_limit_of_timers_is_named() {
    let Some((_vm, mut vcpu)) = one_vcpu(SPIN) else {
        return;
    };
    let restore = common::foreign::allow_no_more_queued_signals();
    for config in both_configs() {
        let error = PreemptibleVcpu::with_config(&mut vcpu, config).unwrap_err();
        assert!(matches!(error, Error::TimerLimit { .. }), "{error}");
        assert!(error.to_string().contains("RLIMIT_SIGPENDING"), "{error}");
    }
    restore();
    PreemptibleVcpu::new(vcpu).unwrap();
}
