use std::io::Cursor;

use super::*;
use crate::Diagnosis;

/// What these files of an archive say of a machine.
fn diagnosis_of(files: &[(&str, &[u8])]) -> Diagnosis {
    let mut archive = tar::Builder::new(vec![]);
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, path, *content).unwrap();
    }
    let mut reports = Reports::default();
    let archive = Cursor::new(archive.into_inner().unwrap());
    reports.add_input("sent.tar", archive).unwrap();
    Diagnosis::of_reports(reports).1
}

const LSCPU: (&str, &[u8]) = (
    "sos_commands/processor/lscpu",
    b"Architecture: x86_64\nCPU(s): 8\nVendor ID: GenuineIntel\n",
);

#[test]
fn version_of_a_driver_is_no_kernel_release() {
    let driver = ("sys/module/igb/version", &b"5.6.0-k\n"[..]);
    let release = &diagnosis_of(&[LSCPU, driver]).facts.kernel_release;
    assert_eq!(release.known(), None, "{release:?}");
    for name in ["uname_-r", "uname", "report/uname.txt"] {
        let uname = (name, &b"6.12.24-Unraid\n"[..]);
        let release = &diagnosis_of(&[driver, LSCPU, uname]).facts.kernel_release;
        assert_eq!(release.known().map(String::as_str), Some("6.12.24-Unraid"));
    }
}

#[test]
fn only_what_looks_like_a_release_is_one_where_it_stands_alone() {
    let release = |text: &str| {
        let mut told = texts::told_by(text, None);
        told.find_map(|(_, told)| told.kernel_release)
    };
    for text in [
        "6.12.24-Unraid",
        "6.6.87.2-microsoft-standard-WSL2",
        "5.15.0+",
    ] {
        assert_eq!(release(text).as_deref(), Some(text));
    }
    for text in ["2023.10.1", "6.12", "1.2-3.4", "6.12.24 x", "6..1"] {
        assert_eq!(release(text), None, "{text}");
    }
}

#[test]
fn settings_for_boot_are_not_the_running_value() {
    let text = &b"kernel.split_lock_mitigate = 0\n"[..];
    let configured = [
        LSCPU,
        ("etc/sysctl.d/99-games.conf", text),
        ("etc/sysctl.conf", text),
    ];
    let value = diagnosis_of(&configured).facts.split_lock_mitigate;
    assert_eq!(value.known(), None, "{value:?}");
    let running = (
        "sos_commands/kernel/sysctl_-a",
        &b"kernel.split_lock_mitigate = 1\n"[..],
    );
    let value = diagnosis_of(&[&configured[..], &[running]].concat())
        .facts
        .split_lock_mitigate;
    assert_eq!(value.known().map(String::as_str), Some("1"));
}

#[test]
fn command_line_of_a_process_is_not_the_kernels() {
    let process = ("sos/proc/77/cmdline", &b"root=/ split_lock_detect=off"[..]);
    let line = diagnosis_of(&[LSCPU, process]).facts.command_line;
    assert_eq!(line.known(), None, "{line:?}");
    for name in ["sos/proc/cmdline", "proc/cmdline", "sent/cmdline.txt"] {
        let kernel = (name, &b"quiet\n"[..]);
        let line = diagnosis_of(&[process, kernel]).facts.command_line;
        assert_eq!(line.known().map(String::as_str), Some("quiet"), "{name}");
    }
}
