//! What is known, one entry for each program and each of its places.

use std::ops::RangeInclusive;

use super::{AddressPattern, Confidence, KnownSplitter, ThreadPattern};
use crate::attribution::ProgramKind;

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

pub(super) static KNOWN: [KnownSplitter; 15] = [
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
