//! The table, against logs in which its code has been met.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::attribution::Traps;
use split_lock_log::Records;

fn suspicions(log: &[u8]) -> Vec<Option<(&'static str, Confidence)>> {
    let mut traps = Traps::default();
    for record in Records::new(log) {
        traps.see(&record.unwrap());
    }
    let groups = traps.summary().groups.into_iter();
    let told = groups.map(|group| {
        let suspicion = group.suspicion()?;
        Some((suspicion.splitter.name, suspicion.confidence))
    });
    told.collect()
}

fn corpus(name: &str) -> Vec<Option<(&'static str, Confidence)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../split-lock-log/tests/corpus");
    suspicions(&std::fs::read(folder.join(name)).unwrap())
}

fn trap(comm: &str, address: u64) -> Option<(&'static str, Confidence)> {
    let line = format!(
        "x86/split lock detection: #AC: {comm}/7 took a split_lock trap at address: {address:#x}\n"
    );
    suspicions(line.as_bytes())[0]
}

/// Known code, and logs in which it is all that there is.
#[rustfmt::skip]
const EXPECTED: [(&str, Confidence, &str); 14] = {
    use Confidence::{Likely, Possible, Reported};
    [
        ("Linux up to 5.4, set_bit() on x86_capability", Likely, "x86lol-vmm.log"),
        ("QEMU's multiboot loader", Reported, "lkp-2023.log qemu-multiboot-dma.log"),
        ("kvm-unit-tests, cpu_online_count", Likely, "kvm-unit-tests-cstart-wrapped.log"),
        ("UEFI firmware of the guest (OVMF), starting CPUs", Possible, "jfcarter-nuc11.log"),
        ("Windows x64 kernel", Reported, "pve-dc01.log"),
        ("Windows 10 (32-bit) kernel", Possible, "virtualbox-2-emt.log"),
        ("Steam's 32-bit client", Reported,
         "steam-8003-ac.log steam-13037-bazzite.log steam-9126-steamcmd.log steam-13525-droplet-guest.log \
          steam-11950.log dota2-33981-fr.log"),
        ("Street Fighter 6", Reported, "proton-6817-sf6.log"),
        ("osu!", Reported, "osu-winello-222.log"),
        ("BambuStudio, libbambu_networking.so", Reported, "bambustudio-8605.log"),
        ("a DOS program in dosemu2", Reported, "dosemu2-1968.log"),
        ("Exasol", Reported, "exasol-kb.log"),
        ("a test that splits locks on purpose", Reported, "lkvs-readme.log"),
        ("a test that splits locks on purpose", Reported, "tdx-guest-livelock.log"),
    ]
};

#[test]
fn known_code_is_found_in_the_logs_that_it_is_known_from() {
    for (name, confidence, files) in EXPECTED {
        for file in files.split(' ') {
            let found = corpus(file);
            assert!(!found.is_empty(), "{file}");
            assert!(
                found.iter().all(|found| *found == Some((name, confidence))),
                "{file}: {found:?}"
            );
        }
    }
    let expected: BTreeSet<_> = EXPECTED.iter().map(|(name, ..)| *name).collect();
    let all: BTreeSet<_> = KNOWN.iter().map(|entry| entry.name).collect();
    assert_eq!(expected, all);
}

#[test]
fn nobody_is_accused_of_what_is_not_known() {
    for file in [
        "proxmox-wiki.log",
        "qemu-gitlab-1069.log",
        "lkml-guest-vs-host.log",
        "sigtrap-false-positive.log",
    ] {
        assert_eq!(corpus(file), [None], "{file}");
    }
    // The third one is the guest's user space.
    let windows = Some(("Windows x64 kernel", Confidence::Reported));
    assert_eq!(
        corpus("kvm-windows-bats-fixture.log"),
        [windows, windows, None]
    );
}

#[test]
fn a_place_alone_is_less_than_a_place_and_a_name() {
    use Confidence::*;
    let linux = "Linux up to 5.4, set_bit() on x86_capability";
    // The same offset in a kernel that is loaded elsewhere.
    assert_eq!(
        trap("CPU 0/KVM", 0xffff_ffff_9a02_38b0),
        Some((linux, Possible))
    );
    assert_eq!(trap("CPU 0/KVM", 0x1_38b0), None);
    assert_eq!(
        trap("CPU 0/KVM", 0xffff_f801_0012_3456),
        Some(("Windows x64 kernel", Likely))
    );
    assert_eq!(
        trap("steamcmd", 0x5600_0000),
        Some(("Steam's 32-bit client", Likely))
    );
    // Other programs have an instruction at that offset as well.
    assert_eq!(trap("firefox", 0x566a_9e23), None);
    assert_eq!(trap("CPU 0/TCG", 0x7efb_5050), None);
    assert_eq!(trap("CPU 0/KVM", 0x1_5050), None);
}

#[test]
fn every_row_says_where_it_is_from() {
    for entry in &KNOWN {
        assert!(!entry.sources.is_empty() && !entry.addresses.is_empty());
        for source in entry.sources {
            let is_public = source.starts_with("http") || source.contains(".log");
            assert!(is_public, "{source}");
        }
    }
}
