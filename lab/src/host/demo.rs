//! `splitlock demo linux` in the machine: a Linux guest of a Linux host of its own, hanging and not.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use split_lock_lab::bundle::Bundles;
use split_lock_lab::plan::{GuestCommand, Plan, QEMU_INTERRUPTED};

use super::apt;
use super::cache::Cache;
use super::initramfs::{archive, file, folder, read};
use super::kernel::Kernel;
use super::lab::{Prepared, output_of};
use super::machine::Shape;
use super::output;
use super::step::step;

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
struct DemoRun {
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
const DEMOS: [DemoRun; 3] = [
    DemoRun {
        name: "off",
        detection: true,
        guard: "off",
        expected: Expected::Hangs,
    },
    DemoRun {
        name: "emulate",
        detection: true,
        guard: "emulate",
        expected: Expected::GetsThrough,
    },
    DemoRun {
        name: "no-detection",
        detection: false,
        guard: "off",
        expected: Expected::GetsThrough,
    },
];

impl DemoRun {
    fn command(&self) -> GuestCommand {
        let arguments = format!(
            "demo linux --kernel {GUEST_KERNEL} --initrd {GUEST_INITRD} --append {APPEND} \
             --memory 192MiB --guard {} --boot-timeout 25s --duration 8s --fail-on hang \
             --stand-in {STAND_IN}",
            self.guard
        );
        GuestCommand {
            detection: self.detection,
            attempts: ATTEMPTS,
            ..GuestCommand::splitlock(self.name, &arguments)
        }
    }
}

/// Shows the guests, and says whether they hung where they should, and only there.
pub(crate) fn run(prepared: &Prepared<'_>) -> Result<bool> {
    let (kernel, cache) = (prepared.kernel, &prepared.lab.cache);
    let busybox = step("busybox", || busybox(cache))?;
    let plan = Plan {
        commands: DEMOS.iter().map(DemoRun::command).collect(),
        ..Plan::default()
    };
    let what = format!("Linux guests of Linux {}", kernel.release);
    let more = guest_files(kernel, &busybox)?;
    let bundles = prepared.boot(&what, Shape::OneCpu, &plan, &more)?;
    let mut is_fine = true;
    for demo in &DEMOS {
        is_fine &= judge(demo, &bundles, &prepared.results)?;
    }
    Ok(is_fine)
}

/// The shell of the guests: Debian's, linked statically.
pub(crate) fn busybox(cache: &Cache) -> Result<PathBuf> {
    let root = cache.folder("busybox");
    apt::unpacked(cache, "busybox", &root, |apt, draft| {
        apt.unpack(&["busybox-static".to_owned()], draft)
    })?;
    Ok(root.join("bin/busybox"))
}

/// The host's own kernel once more, and a shell. The machine's kernel unpacks this archive behind the other.
fn guest_files(kernel: &Kernel, busybox: &Path) -> Result<Vec<u8>> {
    let initrd = archive(vec![folder("bin"), file("bin/sh", read(busybox)?)])?;
    archive(vec![
        folder("demo"),
        file(GUEST_KERNEL, read(&kernel.image)?),
        file(GUEST_INITRD, initrd),
    ])
}

/// The exit code of a demonstration that did not come to its point.
const NOTHING_SHOWN: &str = "2";

/// What it says then, unless it has failed for another reason.
const NO_PROMPT: [&str; 2] = [
    "has not come to a prompt",
    "no serial output from the guest",
];

/// Prints and keeps what was shown, and whether it is what should have been.
fn judge(demo: &DemoRun, bundles: &Bundles, folder: &Path) -> Result<bool> {
    let [said, notes, code] = output_of(bundles, demo.name)?;
    let text = format!("{notes}{said}");
    let file = folder.join(format!("{}.txt", demo.name));
    output::write(&file, text.as_bytes())?;
    if code == NOTHING_SHOWN && NO_PROMPT.iter().any(|words| notes.contains(words)) {
        bail!(
            "a guest's guest did not come to its prompt in {ATTEMPTS} attempts, which is QEMU's fault as far as is known: see {}",
            file.display()
        );
    }
    if said.contains(QEMU_INTERRUPTED) {
        bail!(
            "a guest's guest was not done after {ATTEMPTS} attempts: it took an interrupt while interrupts were off, which is QEMU's fault as far as is known: see {}",
            file.display()
        );
    }
    let (expected_code, words) = match demo.expected {
        Expected::Hangs => ("1", ["The guest hangs", "RCU stall"]),
        Expected::GetsThrough => ("0", ["got through all", "no complaints in the guest's log"]),
    };
    let is_fine = code == expected_code && words.iter().all(|words| said.contains(words));
    let verdict = if is_fine {
        "as foretold"
    } else {
        "NOT as foretold"
    };
    println!("\n{text}\n{}: {verdict} (exit code {code})", demo.name);
    Ok(is_fine)
}
