use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::Diagnosis;

/// What these files of an archive say of a machine.
fn diagnosis_of(files: &[(&str, &[u8])]) -> Diagnosis {
    Diagnosis::of_reports(reports_of(files)).1
}

fn reports_of(files: &[(&str, &[u8])]) -> Reports {
    try_reports_of(files).unwrap()
}

fn try_reports_of(files: &[(&str, &[u8])]) -> io::Result<Reports> {
    let mut archive = tar::Builder::new(vec![]);
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, path, *content).unwrap();
    }
    let mut reports = Reports::default();
    let archive = Cursor::new(archive.into_inner().unwrap());
    reports.add_input("sent.tar", archive)?;
    Ok(reports)
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
        let mut facts = texts::facts_in(text, None);
        facts.find_map(|(_, facts)| facts.kernel_release)
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

const DMESG: &str = "[    0.000000] Linux version 6.12.24-Unraid (x@y) #1 SMP\n\
    [    0.162119] smpboot: CPU0: Intel(R) Core(TM) i7-1165G7 (family: 0x6, model: 0x8c, stepping: 0x1)\n\
    [    1.500000] x86/split lock detection: #AC: a/1 took a split_lock trap at address: 0x10\n";

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn damaged_file_in_an_archive_is_left_out() {
    let whole = gzip(DMESG.as_bytes());
    let cut = &whole[..whole.len() - 20];
    let long = gzip(&DMESG.as_bytes().repeat(10_000));
    let long_cut = &long[..long.len() - 20];
    let files = [
        ("var/log/kern.log.2.gz", cut),
        ("var/log/kern.log.1.gz", long_cut),
        LSCPU,
        ("dmesg", DMESG.as_bytes()),
    ];
    let reports = reports_of(&files);
    assert_eq!(reports.left_out.members, 2);
    let first = reports.left_out.first.clone().unwrap();
    assert!(
        first.starts_with("sent.tar:var/log/kern.log.2.gz: "),
        "{first}"
    );
    let diagnosis = Diagnosis::of_reports(reports).1;
    assert_eq!(diagnosis.history.from, "sent.tar:dmesg");
    assert_eq!(diagnosis.facts.online_cpus.known(), Some(&8));
    let doubt = "2 files in archives are no text, or could not be read: sent.tar:var/log/kern.log.2.gz is the first";
    assert!(diagnosis.verdict.doubts.contains(&doubt.to_owned()));
}

#[test]
fn one_file_that_is_left_out_is_told_in_the_singular() {
    let whole = gzip(DMESG.as_bytes());
    let files = [LSCPU, ("kern.log.1.gz", &whole[..whole.len() - 20])];
    let left_out = reports_of(&files).left_out();
    let doubt = "1 file in an archive is no text, or could not be read: sent.tar:kern.log.1.gz";
    assert_eq!(left_out.as_deref(), Some(doubt));
}

#[test]
fn archive_of_nothing_but_a_damaged_file_is_refused_with_its_error() {
    let whole = gzip(DMESG.as_bytes());
    let cut = &whole[..whole.len() - 20];
    let error = try_reports_of(&[("kern.log.2.gz", cut)]).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("left out was kern.log.2.gz: "), "{error}");
}
