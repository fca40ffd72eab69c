//! `splitlock demo linux` in the machine: a Linux guest of a Linux host of its own, hanging and not.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use split_lock_lab::parcel::Parcel;
use split_lock_lab::plan::{Errand, Plan};

use super::cache::Cache;
use super::cpio::Archive;
use super::initramfs::{self, Programs};
use super::kernel::Kernel;
use super::machine::{Qemu, Shape, parcel};
use super::step::step;
use super::{busybox, module, output};

/// Where they lie in the machine.
const GUEST_KERNEL: &str = "/demo/bzImage";
const GUEST_INITRD: &str = "/demo/initrd";

/// VMMCALL, which the module takes for "the next instruction is a split lock": see guest.c.
const STAND_IN: &str = "0f01d9";

/// QEMU's software CPU does not tell KVM that a guest's guest has changed XCR0.
const APPEND: &str = "noxsave";

/// Now and then a guest's guest of QEMU's software CPU waits for ever at boot, in an interrupt, for a lock that is
/// taken. Why is not known.
const ATTEMPTS: u32 = 3;

/// A guest under one guard, and what has to come of it.
struct Shown {
    name: &'static str,
    detection: bool,
    guard: &'static str,
    expected: Expected,
}

#[derive(Clone, Copy)]
enum Expected {
    Hangs,
    GetsThrough,
}

/// The last shows that it is not the program that makes the guest hang.
const SHOWN: [Shown; 3] = [
    Shown {
        name: "off",
        detection: true,
        guard: "off",
        expected: Expected::Hangs,
    },
    Shown {
        name: "emulate",
        detection: true,
        guard: "emulate",
        expected: Expected::GetsThrough,
    },
    Shown {
        name: "no-detection",
        detection: false,
        guard: "off",
        expected: Expected::GetsThrough,
    },
];

impl Shown {
    fn errand(&self) -> Errand {
        let command = [
            "/bin/splitlock",
            "demo",
            "linux",
            "--kernel",
            GUEST_KERNEL,
            "--initrd",
            GUEST_INITRD,
            "--append",
            APPEND,
            "--memory",
            "192MiB",
            "--guard",
            self.guard,
            "--boot-timeout",
            "25s",
            "--duration",
            "8s",
            "--fail-on",
            "hang",
            "--stand-in",
            STAND_IN,
        ];
        Errand {
            name: self.name.to_owned(),
            mitigate: true,
            detection: self.detection,
            attempts: ATTEMPTS,
            command: command.map(str::to_owned).into(),
        }
    }
}

/// Shows the guests, and says whether they hung where they should, and only there.
pub(crate) fn run(
    kernel: &Kernel,
    cache: &Cache,
    qemu: &Qemu,
    programs: &Programs,
) -> Result<bool> {
    let busybox = step("busybox", || busybox::get(cache))?;
    let module = step("building the module", || module::build(kernel, cache))?;
    let plan = Plan {
        modules: initramfs::modules(),
        errands: SHOWN.iter().map(Shown::errand).collect(),
        ..Plan::default()
    };
    let mut archive = initramfs::pack(kernel, programs, &module, &plan)?;
    archive.extend(guest_files(kernel, &busybox)?);
    let folder = cache.results(&kernel.release).join("demo");
    let what = format!("Linux guests of Linux {}", kernel.release);
    let parcels = step(&what, || {
        qemu.boot(kernel, &archive, Shape::OneCpu, &folder)
    })?;
    let mut is_fine = true;
    for shown in &SHOWN {
        is_fine &= judge(shown, &parcels, &folder)?;
    }
    Ok(is_fine)
}

/// The host's own kernel once more, and a shell. The machine's kernel unpacks this archive behind the other.
fn guest_files(kernel: &Kernel, busybox: &Path) -> Result<Vec<u8>> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("no {}", path.display()));
    let mut initrd = Archive::default();
    initrd.folder("bin");
    initrd.file("bin/sh", &read(busybox)?);
    let mut files = Archive::default();
    files.folder("demo");
    files.file(GUEST_KERNEL, &read(&kernel.image)?);
    files.file(GUEST_INITRD, &initrd.finish());
    Ok(files.finish())
}

/// The exit code of a demonstration that did not come to its point.
const NOTHING_SHOWN: &str = "2";

fn said_nothing_of_split_locks(notes: &str) -> bool {
    [
        "has not come to a prompt",
        "no serial output from the guest",
    ]
    .iter()
    .any(|words| notes.contains(words))
}

/// Prints and keeps what was shown, and whether it is what should have been.
fn judge(shown: &Shown, parcels: &[Parcel], folder: &Path) -> Result<bool> {
    let part = |part: &str| {
        let parcel = parcel(parcels, &format!("{}.{part}", shown.name))?;
        Ok::<_, anyhow::Error>(String::from_utf8_lossy(&parcel.bytes).into_owned())
    };
    let (said, notes, code) = (part("out")?, part("err")?, part("code")?);
    let text = format!("{notes}{said}");
    let file = folder.join(format!("{}.txt", shown.name));
    output::write(&file, text.as_bytes())?;
    if code == NOTHING_SHOWN && said_nothing_of_split_locks(&notes) {
        bail!(
            "a guest's guest did not come to its prompt in {ATTEMPTS} attempts, which is QEMU's fault as far as is known: see {}",
            file.display()
        );
    }
    let (expected_code, words) = match shown.expected {
        Expected::Hangs => ("1", ["The guest hangs", "RCU stall"]),
        Expected::GetsThrough => ("0", ["got through all", "no complaints in the guest's log"]),
    };
    let is_fine = code == expected_code && words.iter().all(|words| said.contains(words));
    let verdict = if is_fine {
        "as foretold"
    } else {
        "NOT as foretold"
    };
    println!("\n{text}\n{}: {verdict} (exit code {code})", shown.name);
    Ok(is_fine)
}
