//! What single kernels, CPUs and hosts are known for.

use split_lock_host::{Condition, NotApplicableReason, Root};

use crate::machine::Machine;
use crate::{BUS, files, judged, says};

/// Zen 5 and later report bus locks, and Linux before 5.13 has no flag of that name.
#[test]
fn a_flag_that_the_kernel_has_no_name_for_is_not_taken_for_absent() {
    for (release, family, because) in [
        (
            "5.10.0-33-amd64",
            26,
            NotApplicableReason::KernelBeforeBusLocks,
        ),
        ("5.10.0-33-amd64", 25, NotApplicableReason::Cpu),
        ("6.1.0-28-amd64", 26, NotApplicableReason::Cpu),
    ] {
        let folder = Machine::amd(release, "fpu").folder();
        let cpuinfo = format!(
            "processor : 0\nvendor_id : AuthenticAMD\ncpu family : {family}\nflags : fpu\n"
        );
        files::write(folder.path(), "proc/cpuinfo", &cpuinfo);
        let verdict = judged(&Root::open(folder.path()).unwrap());
        assert_eq!(
            verdict.condition,
            Condition::NotApplicable { because },
            "{release} {family}"
        );
        assert_eq!(
            says(&verdict, "says nothing"),
            because == NotApplicableReason::KernelBeforeBusLocks
        );
    }
}

/// Cured in 6.13.6 and 6.14.
#[test]
fn bus_locks_that_leak_into_guests_are_said_of_the_kernels_that_do() {
    for (release, leaks) in [
        ("6.12.9", false),
        ("6.13.0", true),
        ("6.13.5-arch1-1", true),
        ("6.13.6", false),
        ("6.14.0", false),
    ] {
        let verdict = Machine::amd(release, BUS).verdict();
        assert_eq!(
            says(&verdict, "get into KVM guests"),
            leaks,
            "{release}: {verdict:?}"
        );
    }
    let verdict = Machine::intel("6.13.5", BUS).verdict();
    assert!(!says(&verdict, "get into KVM guests"), "{verdict:?}");
}

/// "Run it on the host" helps nobody whose host is Windows or ESXi.
#[test]
fn a_guest_of_a_host_that_is_not_linux_gets_advice_that_fits() {
    for (release, vendor, part) in [
        ("5.15.167.4-microsoft-standard-WSL2", None, "Windows"),
        ("6.8.0", Some("VMware, Inc.\n"), "VMware"),
        ("6.8.0", Some("Microsoft Corporation\n"), "Hyper-V"),
        ("6.8.0", Some("innotek GmbH\n"), "VirtualBox"),
    ] {
        let mut machine = Machine::intel(release, "fpu hypervisor");
        if let Some(vendor) = vendor {
            machine = machine.with_files(&[("sys/class/dmi/id/sys_vendor", vendor)]);
        }
        let verdict = machine.verdict();
        assert_eq!(verdict.condition, Condition::HostDecides);
        let advice: String = verdict.fixes.iter().map(|fix| fix.what.clone()).collect();
        assert!(advice.contains(part), "{release} {vendor:?}: {advice}");
        assert!(
            verdict.fixes.iter().all(|fix| fix.steps.is_empty()),
            "{:?}",
            verdict.fixes
        );
    }
}
