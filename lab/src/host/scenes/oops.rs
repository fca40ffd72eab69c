//! What Linux says and does when its own code splits a lock, and when mode `fatal` meets a program that does.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use split_lock_lab::cpu::script::{Command, KERNEL_LOG};

use crate::host::args::OopsArgs;
use crate::host::kernel::BootKernel;
use crate::host::kernel::variant::Variant;
use crate::host::machine::bochs::{Limits, Outcome};
use crate::host::machine::lab::Lab;
use crate::host::machine::outputs::bytes;
use crate::host::machine::runner::{self, Findings, Scene};
use crate::host::output;

const LIMITS: Limits = Limits::in_seconds(60, 300);

/// With only one of them, Linux takes the LOCK prefixes out of its code.
const CPUS: u8 = 2;

/// The only one of a scene.
const COMMAND: &str = "split";

struct Event {
    name: &'static str,
    boot_words: &'static str,
    /// For busybox's shell.
    command: &'static str,
    /// What one line of the kernel's log has, in this order.
    lines: &'static [&'static str],
}

const EVENTS: [Event; 2] = [
    Event {
        name: "kernel-mode",
        boot_words: "loglevel=7",
        command: "echo 1 >/sys/module/skbuff/parameters/clone_misaligned",
        lines: &[
            "x86/split lock detection: #AC: crashing the kernel on kernel split_locks",
            "Split lock detected",
            "RIP: 0010:skb_clone+",
            "Code: ",
            "end trace",
        ],
    },
    Event {
        name: "fatal",
        boot_words: "loglevel=7 split_lock_detect=fatal",
        command: "lab-split",
        lines: &[
            "sending SIGBUS on user-space split_locks",
            "trap alignment check ip:",
        ],
    },
];

/// Whether the kernels say what they should.
pub(crate) fn run(args: &OopsArgs) -> Result<bool> {
    let lab = Lab::open([CPUS])?;
    let kernels = lab.kernels(&args.kernel)?;
    let scenes = kernels.iter().flat_map(|kernel| {
        EVENTS
            .iter()
            .map(|event| event.scene(kernel, args.out.as_deref()))
    });
    runner::run(&lab, scenes.collect())
}

impl Event {
    fn scene<'a>(&'a self, kernel: &'a BootKernel, out: Option<&'a Path>) -> Scene<'a> {
        let judge =
            move |outcome: &Outcome, folder: &Path| self.judge(kernel, out, outcome, folder);
        let command = Command::shell(COMMAND, self.command);
        let mut scene = Scene::new(self.name, kernel, LIMITS, [command], judge);
        scene.options.cpus = CPUS;
        scene.boot_words = self.boot_words;
        scene
    }

    fn judge(
        &self,
        kernel: &BootKernel,
        out: Option<&Path>,
        outcome: &Outcome,
        folder: &Path,
    ) -> Result<Findings> {
        let mut findings = Findings::new(&format!("\n{}, {}", kernel.release, self.name));
        let is_edited = kernel.variant == Some(Variant::KernelMode);
        findings.check(
            "the kernel is one that can be made to split a lock",
            is_edited,
        );
        let log = String::from_utf8_lossy(bytes(&outcome.bundles, KERNEL_LOG)?);
        let mut rest = log.lines();
        for words in self.lines {
            let found = rest.any(|line| line.contains(words));
            findings.check(&format!("the kernel's log has: {words}"), found);
        }
        if let Some(out) = out {
            let serial = folder.join("serial.log");
            let serial = fs::read(&serial).with_context(|| format!("no {}", serial.display()))?;
            let name = format!("{}-{}", kernel.release, self.name);
            output::write(&out.join(format!("{name}.serial.log")), &serial)?;
            output::write(&out.join(format!("{name}.dmesg")), log.as_bytes())?;
        }
        Ok(findings)
    }
}
