//! Guests of Debian's unmodified QEMU in the machine: one that hangs at its first split lock, because QEMU itself calls its vCPU
//! out for each tick of the guest, and one that gets its windows and does not always come to its split lock in time.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use split_lock_lab::cpu::journal::{Event, Kind};
use split_lock_lab::cpu::options::{CpuOptions, Vendor};
use split_lock_lab::cpu::script::{Command, PlacedFile, Script};

use crate::host::args::QemuArgs;
use crate::host::kernel::BootKernel;
use crate::host::machine::bochs::{Limits, Outcome};
use crate::host::machine::initramfs::{archive, file, folder, read};
use crate::host::machine::lab::Lab;
use crate::host::machine::qemu::Qemu;
use crate::host::machine::rootfs;
use crate::host::machine::runner::{self, Findings, Scene};
use crate::host::output;
use crate::host::step::step;

const LIMITS: Limits = Limits {
    guest: Duration::from_secs(300),
    wall: Duration::from_secs(1800),
};

/// A trap that is still being handled right after boot meets a busy kernel.
const SETTLE_MS: u64 = 3000;

/// Who delivers a guest's interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Irqchip {
    /// QEMU, which calls the vCPU out for each of them.
    Qemu,
    /// KVM.
    Kvm,
}

const GUEST: &str = "guest";
const WATCH: &str = "watch";

/// How long a guest is given to boot and to split its locks, in seconds; and for how long of that it has to stand at its first one,
/// if it hangs.
const GUEST_SECONDS: u64 = 160;
const HANGS_FOR: Duration = Duration::from_secs(40);

const SPLIT_LOCKS: u64 = 100;

impl Irqchip {
    fn name(self) -> &'static str {
        match self {
            Self::Qemu => "QEMU, interrupts by QEMU",
            Self::Kvm => "QEMU, interrupts by KVM",
        }
    }

    /// What the machine's shell runs: the guest, and a watch beside it.
    fn commands(self, kernel: &str) -> [Command; 2] {
        let irqchip = match self {
            Self::Qemu => "off",
            Self::Kvm => "on",
        };
        let guest = format!(
            "splitlock watch --json > /tmp/watch & watch=$!
             until [ -s /tmp/watch ] || ! kill -0 $watch; do usleep 20000; done
             timeout -s KILL {GUEST_SECONDS} qemu-system-x86_64 -M pc,accel=kvm,kernel-irqchip={irqchip} -cpu host,kvm-asyncpf-int=off -m 192 \
                 -nodefaults -display none -serial stdio -no-reboot -kernel /{kernel} -initrd /guest.cpio \
                 -append 'console=ttyS0 loglevel=1 tsc=reliable' < /dev/null
             echo \"qemu: $?\"
             kill -TERM $watch; wait $watch; :"
        );
        [
            Command::shell(GUEST, &guest),
            Command::shell(WATCH, "cat /tmp/watch"),
        ]
    }
}

/// The guest's first program.
const GUEST_INIT: &str = "#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
read begin rest < /proc/uptime
echo \"guest: begins at $begin\"
/bin/lab-split --count SPLIT_LOCKS --pause-ms 1
read end rest < /proc/uptime
echo \"guest: done at $end\"
/bin/busybox poweroff -f
";

/// Boots kernels, and looks at both guests.
pub(crate) fn run(args: &QemuArgs) -> Result<bool> {
    let options = CpuOptions {
        journal_locks: true,
        ..CpuOptions::default()
    };
    let lab = Lab::open([options.cpus])?;
    let qemu = step("QEMU", || Qemu::get(&lab.cache))?;
    let initrd = guest_initramfs(&lab)?;
    let kernels = lab.kernels(&args.kernel)?;
    let mut scenes = Vec::new();
    for kernel in &kernels {
        for irqchip in [Irqchip::Qemu, Irqchip::Kvm] {
            let mut files = qemu.files(&[])?;
            let image = PlacedFile::in_root(kernel.image.clone());
            let commands = irqchip.commands(&image.at);
            files.push(image);
            files.push(PlacedFile {
                at: "guest.cpio".to_owned(),
                from: initrd.clone(),
            });
            scenes.push(Scene {
                name: irqchip.name().to_owned(),
                kernel,
                options,
                boot_words: "",
                script: Script {
                    modules: rootfs::kvm_modules(kernel, Vendor::Intel),
                    settle_ms: SETTLE_MS,
                    files,
                    commands: commands.into(),
                    ..Script::default()
                },
                limits: LIMITS,
                judge: Box::new(move |outcome, _| judge(kernel, irqchip, outcome)),
            });
        }
    }
    runner::run(&lab, scenes)
}

/// busybox, and the program that splits locks.
fn guest_initramfs(lab: &Lab) -> Result<PathBuf> {
    let programs = lab.programs();
    let init = GUEST_INIT.replace("SPLIT_LOCKS", &SPLIT_LOCKS.to_string());
    let folders = ["bin", "dev", "proc"].map(folder);
    let files = [
        file("init", init.into_bytes()),
        file("bin/busybox", read(&programs.busybox)?),
        file("bin/lab-split", read(&programs.split)?),
    ];
    let bytes = archive(folders.into_iter().chain(files).collect())?;
    let path = lab.cache.folder("build").join("guest.cpio");
    output::write(&path, &bytes)?;
    Ok(path)
}

fn judge(kernel: &BootKernel, irqchip: Irqchip, outcome: &Outcome) -> Result<Findings> {
    let mut findings = Findings::new(&format!("\n{}, {}", kernel.release, irqchip.name()));
    let console = outcome.printed(GUEST)?;
    let events = outcome.events_during(GUEST)?;
    let of_guest = |is_it: fn(&Event) -> bool| {
        let those = events.iter().filter(|event| event.guest && is_it(event));
        those.count() as u64
    };
    let traps = of_guest(|event| event.kind.is_alignment_check());
    let let_through = of_guest(|event| matches!(event.kind, Kind::BusLock(_)));
    let watch = outcome.printed(WATCH)?;
    let end = watch
        .lines()
        .rfind(|line| line.contains(r#""event":"end""#));
    let end: Value = serde_json::from_str(end.context("the watch did not end")?)?;
    let seen = |field: &str| end["totals"][field].as_u64().unwrap_or_default();
    findings.check(
        &format!("the watch has seen the {traps} traps that the CPU raised"),
        seen("traps") == traps,
    );
    match irqchip {
        Irqchip::Qemu => {
            let traps = events
                .iter()
                .filter(|event| event.guest && event.kind.is_alignment_check());
            let first = traps.map(|event| event.tick).next().unwrap_or(u64::MAX);
            let last = events.last().map_or(0, |event| event.tick);
            let nanos = |tick| outcome.journal.nanos(tick);
            let stood = Duration::from_nanos(nanos(last).saturating_sub(nanos(first)));
            findings.check(
                &format!(
                    "the guest stands at its first split lock for {stood:.0?}, until it is killed"
                ),
                stood >= HANGS_FOR && let_through == 0,
            );
            findings.check(
                "the watch calls it a livelock",
                watch.contains(r#""to":"livelocked""#),
            );
        }
        Irqchip::Kvm => {
            let done = console.contains("guest: done");
            findings.check(
                &format!("the guest gets through all of its {SPLIT_LOCKS} split locks"),
                done && let_through == SPLIT_LOCKS,
            );
            // Nothing interrupts its sleeps, so each trap ends with a window; one for each split lock would do.
            let unused = traps.saturating_sub(let_through);
            let told = seen("windows_unused");
            findings.check(
                &format!(
                    "{unused} of its {traps} windows were over before it came to its split lock, as the CPU has it; the watch says \
                     {told}, which is no more, and at least half"
                ),
                unused > 0 && told <= unused && told * 2 >= unused,
            );
        }
    }
    Ok(findings)
}
