//! Code that is known to split locks, with where that is from.
//!
//! What is publicly reported is mostly a thread's name and an address. So an entry never says more than that
//! a name, or an instruction's place, or both have been seen before.

use std::ops::RangeInclusive;

use serde::Serialize;

use super::{Fingerprint, Group, ProgramKind};

/// Code that somebody has met before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KnownSplitter {
    /// What it is called.
    pub name: &'static str,
    /// What is known of it, in a sentence.
    pub what: &'static str,
    /// What can be done about it, in a sentence, if anything.
    pub remedy: Option<&'static str>,
    /// Where that is from: addresses of pages, or a description.
    pub sources: &'static [&'static str],
    #[serde(skip)]
    threads: ThreadPattern,
    /// Instructions that it has been seen at.
    #[serde(skip)]
    addresses: &'static [AddressPattern],
    /// If the thread and one of these fit.
    #[serde(skip)]
    by_place: Confidence,
    /// If only the thread fits.
    #[serde(skip)]
    by_name: Option<Confidence>,
}

/// Known code that a group of traps may be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Suspicion {
    /// The code.
    #[serde(rename = "culprit")]
    pub splitter: &'static KnownSplitter,
    /// How much there is to it.
    pub confidence: Confidence,
}

/// How much there is to a suspicion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// It looks like it, and other code may look the same.
    Possible,
    /// It is peculiar enough that hardly anything else is meant.
    Likely,
    /// Both who did it and the instruction have been reported before.
    Reported,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ThreadPattern {
    /// Threads of one of these names.
    Comm(&'static [&'static str]),
    /// Code of a guest, whichever VMM runs it.
    Guest,
    /// Code of a guest of this one.
    GuestOf(&'static [ProgramKind]),
}

/// Where an instruction is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum AddressPattern {
    At(u64),
    /// At this offset in a page, in this range.
    Offset(u16, RangeInclusive<u64>),
    Windows(u32),
    AnywhereInWindows,
}

const ANYWHERE: RangeInclusive<u64> = 0..=u64::MAX;

/// Where firmware is loaded: below the hole for devices, and above what boots from a disk.
const FIRMWARE: RangeInclusive<u64> = 0x4000_0000..=0xffff_ffff;

/// Where 32-bit Windows has its kernel.
const UPPER_2_GIB: RangeInclusive<u64> = 0x8000_0000..=0xffff_ffff;

/// Where Linux has its own, randomised or not.
const LINUX_KERNEL: RangeInclusive<u64> = 0xffff_ffff_8000_0000..=0xffff_ffff_bfff_ffff;

const fn anywhere(offset: u16) -> AddressPattern {
    AddressPattern::Offset(offset, ANYWHERE)
}

const WINDOWS_SOURCES: &[&str] = &[
    "reports of Proxmox VE and Unraid users (pve-dc01.log and kvm-windows-bats-fixture.log among this \
     project's test data)",
];

const QEMU: ThreadPattern = ThreadPattern::GuestOf(&[ProgramKind::QemuVcpu, ProgramKind::Qemu]);

static KNOWN: [KnownSplitter; 15] = [
    KnownSplitter {
        name: "Linux up to 5.4, set_bit() on x86_capability",
        what: "A guest with such a kernel sets bits in an array of CPU features that is not aligned to 8 bytes.",
        remedy: Some("Run Linux 5.5 or later in the guest, or one with commit db8c33f8b5be."),
        sources: &["https://x86.lol/generic/2023/11/07/split-lock.html"],
        threads: ThreadPattern::Guest,
        addresses: &[AddressPattern::At(0xffff_ffff_8102_38b0)],
        by_place: Confidence::Likely,
        by_name: None,
    },
    KnownSplitter {
        name: "Linux up to 5.4, set_bit() on x86_capability",
        what: "A guest's kernel traps at an instruction whose place in its page is that of set_bit() in a Linux kernel that is known for it; other builds have other code there.",
        remedy: Some("If the guest runs Linux before 5.5, update it."),
        sources: &["https://x86.lol/generic/2023/11/07/split-lock.html"],
        threads: ThreadPattern::Guest,
        addresses: &[AddressPattern::Offset(0x8b0, LINUX_KERNEL)],
        by_place: Confidence::Possible,
        by_name: None,
    },
    KnownSplitter {
        name: "QEMU's multiboot loader",
        what: "The option ROM multiboot_dma.bin of QEMU loads segments from a descriptor table that is not aligned to 8 bytes; the CPU locks to mark them as accessed.",
        remedy: Some(
            "Use a QEMU with commit 4c8f69b94839 (2025). It happens once per start of the guest.",
        ),
        sources: &["https://gitlab.com/qemu-project/qemu/-/commit/4c8f69b94839"],
        threads: QEMU,
        addresses: &[AddressPattern::At(0x1e3)],
        by_place: Confidence::Reported,
        by_name: None,
    },
    KnownSplitter {
        name: "kvm-unit-tests, cpu_online_count",
        what: "The start-up code of these tests counts CPUs in a variable that is not aligned.",
        remedy: Some("Build them anew: later versions align it."),
        sources: &["https://gitlab.com/kvm-unit-tests/kvm-unit-tests"],
        threads: QEMU,
        addresses: &[AddressPattern::At(0x40_0306)],
        by_place: Confidence::Likely,
        by_name: None,
    },
    KnownSplitter {
        name: "UEFI firmware of the guest (OVMF), starting CPUs",
        what: "Two hosts have reported an instruction at this place of a page, at addresses where firmware runs; nobody has looked at it yet.",
        remedy: Some("It happens while the guest starts, and is no cause of lasting slowness."),
        sources: &[
            "http://www.jfcarter.net/~jimc/hardware/intel-nuc11pahi5/faceplant.shtml",
            "https://community.home-assistant.io/t/problem-with-haos-ova-qcow2-in-proxmox-8-4-1-guest-ping-timeout-split-lock-trap/905481",
        ],
        threads: QEMU,
        addresses: &[AddressPattern::Offset(0x050, FIRMWARE)],
        by_place: Confidence::Possible,
        by_name: None,
    },
    KnownSplitter {
        name: "Windows x64 kernel",
        what: "An instruction of the kernel or a driver of Windows that has been reported before; two independent hosts have met 0x6dfdff.",
        remedy: None,
        sources: WINDOWS_SOURCES,
        threads: ThreadPattern::Guest,
        addresses: &[
            AddressPattern::Windows(0x6d_fdff),
            AddressPattern::Windows(0x84_e9be),
            AddressPattern::Windows(0x53_5ed3),
        ],
        by_place: Confidence::Reported,
        by_name: None,
    },
    KnownSplitter {
        name: "Windows x64 kernel",
        what: "The address is one at which Windows has its kernel and drivers, and other systems have nothing.",
        remedy: None,
        sources: WINDOWS_SOURCES,
        threads: ThreadPattern::Guest,
        addresses: &[AddressPattern::AnywhereInWindows],
        by_place: Confidence::Likely,
        by_name: None,
    },
    KnownSplitter {
        name: "Windows 10 (32-bit) kernel",
        what: "Two instructions, reported of Windows 10 LTSC 2019 (32-bit) in VirtualBox, at addresses where its kernel is.",
        remedy: None,
        sources: &["https://github.com/VirtualBox/virtualbox/issues/2"],
        threads: ThreadPattern::GuestOf(&[ProgramKind::VirtualBoxVcpu, ProgramKind::QemuVcpu]),
        addresses: &[
            AddressPattern::Offset(0x5bf, UPPER_2_GIB),
            AddressPattern::Offset(0x584, UPPER_2_GIB),
        ],
        by_place: Confidence::Possible,
        by_name: None,
    },
    KnownSplitter {
        name: "Steam's 32-bit client",
        what: "Code for 32 bits aligns 64-bit integers to 4 bytes only; Steam's client and steamcmd lock such ones all the time.",
        remedy: Some(
            "Use the 64-bit client where there is one (STEAM_PLATFORM=linux64 for steamcmd).",
        ),
        sources: &[
            "https://github.com/ValveSoftware/steam-for-linux/issues/8003",
            "https://github.com/ValveSoftware/steam-for-linux/issues/9126",
            "https://github.com/ValveSoftware/steam-for-linux/issues/11950",
            "https://github.com/ValveSoftware/steam-for-linux/issues/13037",
            "https://github.com/ValveSoftware/steam-for-linux/issues/13525",
            "https://github.com/ValveSoftware/Dota2-Gameplay/issues/33981",
        ],
        threads: ThreadPattern::Comm(&[
            "CHTTPClientThre",
            "CIPCServer::Thr",
            "CJobMgr::m_Work",
            "steamcmd",
        ]),
        addresses: &[
            anywhere(0xe23),
            anywhere(0x163),
            anywhere(0xaea),
            anywhere(0xaaf),
            anywhere(0xd9f),
            anywhere(0x094),
            anywhere(0x5a4),
            anywhere(0xcb4),
        ],
        by_place: Confidence::Reported,
        by_name: Some(Confidence::Likely),
    },
    KnownSplitter {
        name: "Street Fighter 6",
        what: "The game's own code, reported with online play; it costs frames.",
        remedy: None,
        sources: &["https://github.com/ValveSoftware/Proton/issues/6817"],
        threads: ThreadPattern::Comm(&["StreetFighter6.", "StreetFighter6.exe"]),
        addresses: &[anywhere(0x89a), anywhere(0x006), anywhere(0xe0a)],
        by_place: Confidence::Reported,
        by_name: Some(Confidence::Likely),
    },
    KnownSplitter {
        name: "osu!",
        what: "The game's own code, one instruction in many of its threads.",
        remedy: None,
        sources: &["https://github.com/NelloKudo/osu-winello/issues/222"],
        threads: ThreadPattern::Comm(&["osu!.exe"]),
        addresses: &[anywhere(0x06d)],
        by_place: Confidence::Reported,
        by_name: Some(Confidence::Likely),
    },
    KnownSplitter {
        name: "BambuStudio, libbambu_networking.so",
        what: "A library that only its vendor has the source of; it makes the program very slow to start.",
        remedy: Some("Version 2.6.1 is reported to do better."),
        sources: &["https://github.com/bambulab/BambuStudio/issues/8605"],
        threads: ThreadPattern::Comm(&["bambustu_main"]),
        addresses: &[
            anywhere(0x223),
            anywhere(0x450),
            anywhere(0xf66),
            anywhere(0x69e),
            anywhere(0xa6e),
        ],
        by_place: Confidence::Reported,
        by_name: Some(Confidence::Likely),
    },
    KnownSplitter {
        name: "a DOS program in dosemu2",
        what: "XCHG with memory always locks, and DOS programs do not align; OpenDOS 7.01 (at 0x496c) and test 5 of libi86 (at 0x1795, which hung) are reported.",
        remedy: None,
        sources: &[
            "https://github.com/dosemu2/dosemu2/issues/1968",
            "https://github.com/dosemu2/dosemu2/issues/2892",
            "https://github.com/dosemu2/dosemu2/pull/2898",
        ],
        threads: ThreadPattern::Comm(&["dosemu.bin", "dosemu2.bin"]),
        addresses: &[AddressPattern::At(0x1795), AddressPattern::At(0x496c)],
        by_place: Confidence::Reported,
        by_name: Some(Confidence::Likely),
    },
    KnownSplitter {
        name: "Exasol",
        what: "The database's processes split locks; its vendor advises to switch detection off.",
        remedy: None,
        sources: &["Exasol's knowledge base (exasol-kb.log among this project's test data)"],
        threads: ThreadPattern::Comm(&["exasql", "exasqllog"]),
        addresses: &[anywhere(0x1f8)],
        by_place: Confidence::Reported,
        by_name: Some(Confidence::Likely),
    },
    KnownSplitter {
        name: "a test that splits locks on purpose",
        what: "Programs of this name test detection.",
        remedy: None,
        sources: &["https://github.com/intel/lkvs/blob/main/BM/splitlock/README.md"],
        threads: ThreadPattern::Comm(&["sl_test", "split_lock"]),
        addresses: &[anywhere(0x231), anywhere(0x1f5), anywhere(0x1f9)],
        by_place: Confidence::Reported,
        by_name: Some(Confidence::Possible),
    },
];

impl Group {
    /// Who it may be, as far as there is a report that it looks like; the best founded suspicion.
    #[must_use]
    pub fn suspicion(&self) -> Option<Suspicion> {
        let found = KNOWN.iter().filter_map(|splitter| {
            let confidence = splitter.confidence(self)?;
            Some(Suspicion {
                splitter,
                confidence,
            })
        });
        // The first one of those that are equal.
        found.rev().max_by_key(|suspicion| suspicion.confidence)
    }
}

impl KnownSplitter {
    fn confidence(&self, group: &Group) -> Option<Confidence> {
        if !self.threads.is(group) {
            return None;
        }
        let is_there = self.addresses.iter().any(|place| place.is_of(group));
        is_there.then_some(self.by_place).or(self.by_name)
    }
}

impl ThreadPattern {
    fn is(&self, group: &Group) -> bool {
        let may_be_a_guest = group.space != super::Space::Program;
        match self {
            ThreadPattern::Comm(names) => {
                let mut comms = group.threads.iter().map(|thread| &thread.comm[..]);
                comms.any(|comm| names.iter().any(|name| name.as_bytes() == comm))
            }
            ThreadPattern::Guest => may_be_a_guest,
            ThreadPattern::GuestOf(kinds) => may_be_a_guest && kinds.contains(&group.program.kind),
        }
    }
}

impl AddressPattern {
    fn is_of(&self, group: &Group) -> bool {
        let mut addresses = group.addresses.iter().map(|address| address.address);
        match self {
            AddressPattern::At(place) => addresses.any(|address| address == *place),
            AddressPattern::Offset(offset, range) => {
                group.fingerprint == Fingerprint::PageOffset(*offset)
                    && addresses.any(|address| range.contains(&address))
            }
            AddressPattern::Windows(bits) => group.fingerprint == Fingerprint::WindowsKernel(*bits),
            AddressPattern::AnywhereInWindows => {
                matches!(group.fingerprint, Fingerprint::WindowsKernel(_))
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
}
