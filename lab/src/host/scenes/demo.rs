//! `splitlock demo linux` in the machine: a Linux guest of a Linux host of its own, hanging and not.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::IgnoredAny;
use split_lock_lab::cpu::script::{Command, PlacedFile};

use crate::host::args::Kernels;
use crate::host::kernel::BootKernel;
use crate::host::machine::bochs::{Limits, Outcome};
use crate::host::machine::lab::Lab;
use crate::host::machine::runner::{self, Findings, Scene};
use crate::host::output;

const LIMITS: Limits = Limits::in_seconds(240, 1800);

/// A guest under one guard, and what has to come of it.
#[derive(Clone, Copy, Debug)]
struct DemoRun {
    name: &'static str,
    boot_words: &'static str,
    guard: &'static str,
    expected: Expected,
}

#[derive(Clone, Copy, Debug)]
enum Expected {
    /// At its first split lock. Whether its kernel notices depends on what RCU was about.
    Hangs,
    /// Each split lock is done by the guard.
    Emulated,
    /// Each split lock is done by the CPU.
    Undisturbed,
}

/// The last shows that it is not the program that makes the guest hang.
const DEMOS: [DemoRun; 3] = [
    DemoRun {
        name: "demo unguarded",
        boot_words: "",
        guard: "off",
        expected: Expected::Hangs,
    },
    DemoRun {
        name: "demo guarded",
        boot_words: "",
        guard: "emulate",
        expected: Expected::Emulated,
    },
    DemoRun {
        name: "demo without detection",
        boot_words: "split_lock_detect=off",
        guard: "off",
        expected: Expected::Undisturbed,
    },
];

const GUEST: &str = "guest";
const CONSOLE: &str = "console";

/// How long each guest is listened to, in seconds, and most of that.
const SECONDS_SHOWN: u64 = 8;
const MOST_OF_THE_TIME_NS: u64 = 7_000_000_000;

/// The guest's shell is that of the machine.
const MAKE_INITRD: &str = "mkdir -p /tmp/root/bin && cp /bin/busybox /tmp/root/bin/sh && cd /tmp/root && \
                           find . | cpio -o -H newc > /tmp/initrd";

/// Shows the guests, and says whether they hung where they should, and only there.
pub(crate) fn run(args: &Kernels) -> Result<bool> {
    let lab = Lab::open([1])?;
    let kernels = lab.kernels(&args.kernel)?;
    let mut scenes = Vec::new();
    for kernel in &kernels {
        for demo in DEMOS {
            scenes.push(demo.scene(kernel)?);
        }
    }
    runner::run(&lab, scenes)
}

impl DemoRun {
    /// The host's own kernel once more is the guest's.
    fn scene(self, kernel: &BootKernel) -> Result<Scene<'_>> {
        let image = kernel.image.file_name().context("a kernel is a file")?;
        let image = image.to_str().context("a kernel's name is text")?;
        let demo = format!(
            "/bin/splitlock demo linux --kernel /{image} --initrd /tmp/initrd --memory 192MiB --guard {} \
             --boot-timeout 60s --duration {SECONDS_SHOWN}s --json --log /tmp/console",
            self.guard
        );
        let commands = [
            Command::shell("initrd", MAKE_INITRD),
            Command::new(GUEST, &demo),
            Command::new(CONSOLE, "/bin/busybox cat /tmp/console"),
        ];
        let judge = move |outcome: &Outcome, folder: &Path| self.judge(kernel, outcome, folder);
        let mut scene = Scene::new(self.name, kernel, LIMITS, commands, judge).with_kvm();
        scene.boot_words = self.boot_words;
        scene.script.settle_ms = 0;
        scene.script.files = vec![PlacedFile::in_root(kernel.image.clone())];
        Ok(scene)
    }

    fn judge(&self, kernel: &BootKernel, outcome: &Outcome, folder: &Path) -> Result<Findings> {
        let json = outcome.printed(GUEST)?;
        let console = outcome.printed(CONSOLE)?;
        for (name, text) in [("demo.json", &json), ("console.txt", &console)] {
            output::write(&folder.join(name), text.as_bytes())?;
        }
        let shown: Shown = serde_json::from_str(&json).context("the demo printed no JSON")?;
        let traps = outcome.traps_during(GUEST)?;
        let mut findings = Findings::new(&format!("\n{}, {}", kernel.release, self.name));
        match self.expected {
            Expected::Hangs => {
                let stood = shown.stood.as_ref();
                let at = stood.map_or("", |stood| &stood.at);
                let is_there = |rip: u64| at.starts_with(&format!("{rip:#x}: "));
                let most = stood.is_some_and(|stood| stood.time_ns > MOST_OF_THE_TIME_NS);
                findings.check(
                    "the guest hangs at its first split lock, and for all of the time",
                    shown.hangs() && most,
                );
                findings.check(
                    &format!(
                        "all of the {} traps were in the guest, at the instruction where it stood",
                        traps.len()
                    ),
                    !traps.is_empty() && traps.iter().all(|trap| trap.guest && is_there(trap.rip)),
                );
            }
            Expected::Emulated => {
                findings.check(
                    "the guest gets through all of its split locks",
                    shown.is_done(),
                );
                let did = shown.guard_did.unwrap_or_default();
                let emulated = did.emulated_at_stalls + did.emulated_at_breakpoints;
                findings.check(
                    &format!(
                        "the guard has emulated each of them, {} after a trap",
                        did.stalls
                    ),
                    emulated == shown.split_locks && did.stalls > 0,
                );
                findings.check(
                    &format!("the CPU raised #AC {} times for that", traps.len()),
                    traps.len() as u64 >= did.stalls && (traps.len() as u64) < shown.split_locks,
                );
            }
            Expected::Undisturbed => {
                findings.check(
                    "the guest gets through all of its split locks",
                    shown.is_done(),
                );
                findings.check("there were no traps", traps.is_empty());
            }
        }
        findings.say(&format!(
            "  its console, and all of it: {}",
            folder.display()
        ));
        Ok(findings)
    }
}

/// What is looked at of what the demo prints. `docs/demo.md` has the fields.
#[derive(Debug, Deserialize)]
struct Shown {
    hung: bool,
    split_locks: u64,
    split_locks_done: u64,
    complaints: Vec<IgnoredAny>,
    stood: Option<Stood>,
    guard_did: Option<GuardDid>,
}

#[derive(Debug, Deserialize)]
struct Stood {
    at: String,
    time_ns: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct GuardDid {
    stalls: u64,
    emulated_at_stalls: u64,
    emulated_at_breakpoints: u64,
}

impl Shown {
    fn hangs(&self) -> bool {
        self.hung && self.split_locks_done == 0
    }

    fn is_done(&self) -> bool {
        !self.hung && self.split_locks_done == self.split_locks && self.complaints.is_empty()
    }
}
