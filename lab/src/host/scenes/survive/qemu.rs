//! Guests of Debian's unmodified QEMU in the machine: one that hangs at its first split lock, because QEMU itself calls its vCPU
//! out for each tick of the guest, and one that gets its windows and does not always come to its split lock in time.

use std::path::{Path, PathBuf};
use std::slice;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use split_lock_lab::cpu::journal::{Event, Kind};
use split_lock_lab::cpu::script::{Command, PlacedFile};

use crate::host::kernel::BootKernel;
use crate::host::machine::bochs::{Limits, Outcome};
use crate::host::machine::initramfs::{archive, file, folder, read};
use crate::host::machine::lab::Lab;
use crate::host::machine::qemu::Qemu;
use crate::host::machine::runner::{Findings, Scene};
use crate::host::output;
use crate::host::scenes::watch::UNTIL_WATCH_LISTENS;

const LIMITS: Limits = Limits::in_seconds(300, 1800);

/// A guest, and what has to come of it.
#[derive(Clone, Copy, Debug)]
struct QemuRun {
    name: &'static str,
    /// `kernel-irqchip`: with `off`, QEMU calls its vCPU out for each interrupt of the guest.
    irqchip: &'static str,
    /// What QEMU is started by.
    starter: &'static str,
    /// How many locks the guest splits.
    split_locks: u64,
    expected: Expected,
}

#[derive(Clone, Copy, Debug)]
enum Expected {
    /// At its first split lock, or soon after.
    Hangs,
    /// It gets through, and not all of its windows are used.
    Crawls,
    /// The library does its split locks.
    Runs,
}

const RUNS: [QemuRun; 4] = [
    QemuRun {
        name: "interrupts by QEMU",
        irqchip: "off",
        starter: "",
        split_locks: 100,
        expected: Expected::Hangs,
    },
    QemuRun {
        name: "interrupts by KVM",
        irqchip: "on",
        starter: "",
        split_locks: 100,
        expected: Expected::Crawls,
    },
    QemuRun {
        name: "interrupts by QEMU, with splitlock run",
        irqchip: "off",
        starter: RUN,
        split_locks: 1000,
        expected: Expected::Runs,
    },
    QemuRun {
        name: "interrupts by KVM, with splitlock run",
        irqchip: "on",
        starter: RUN,
        split_locks: 1000,
        expected: Expected::Runs,
    },
];

const RUN: &str = "splitlock run --stats /tmp/stats.json --";

const GUEST: &str = "guest";
const WATCH: &str = "watch";
const REPORT: &str = "report";

/// How long a guest is given to boot and to split its locks, in seconds; and after how long it must not have done half of them, if it
/// hangs.
const GUEST_SECONDS: u64 = 60;
const HANGS_FOR: Duration = Duration::from_secs(40);

impl QemuRun {
    /// What the machine's shell runs: the guest, and a watch beside it.
    fn commands(&self, kernel: &str) -> [Command; 3] {
        let Self {
            irqchip, starter, ..
        } = self;
        let guest = format!(
            "splitlock watch --json > /tmp/watch & watch=$!
             {UNTIL_WATCH_LISTENS}
             timeout -s KILL {GUEST_SECONDS} {starter} qemu-system-x86_64 -sandbox on -M pc,accel=kvm,kernel-irqchip={irqchip} -cpu host,kvm-asyncpf-int=off -m 192 \
                 -nodefaults -display none -serial stdio -no-reboot -kernel /{kernel} -initrd /guest.cpio \
                 -append 'console=ttyS0 loglevel=1 tsc=reliable' < /dev/null
             echo \"qemu: $?\"
             kill -TERM $watch; wait $watch; :"
        );
        [
            Command::shell(GUEST, &guest),
            Command::shell(WATCH, "cat /tmp/watch"),
            Command::shell(REPORT, "cat /tmp/stats.json; :"),
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

/// Both guests, with and without.
pub(super) fn scenes<'a>(
    kernel: &'a BootKernel,
    lab: &Lab,
    qemu: &Qemu,
    library: &PlacedFile,
) -> Result<Vec<Scene<'a>>> {
    let scene = |run: QemuRun| -> Result<Scene<'a>> {
        let mut files = qemu.files(slice::from_ref(library))?;
        let image = PlacedFile::in_root(kernel.image.clone());
        let commands = run.commands(&image.at);
        files.push(image);
        files.push(PlacedFile {
            at: "guest.cpio".to_owned(),
            from: guest_initramfs(lab, run.split_locks)?,
        });
        let name = format!("QEMU, {}", run.name);
        let judge = move |outcome: &Outcome, _: &Path| judge(kernel, run, outcome);
        let mut scene = Scene::new(&name, kernel, LIMITS, commands, judge).with_kvm();
        scene.options.journal_locks = true;
        scene.script.files = files;
        Ok(scene)
    };
    RUNS.into_iter().map(scene).collect()
}

/// busybox, and the program that splits locks.
fn guest_initramfs(lab: &Lab, split_locks: u64) -> Result<PathBuf> {
    let programs = lab.programs();
    let init = GUEST_INIT.replace("SPLIT_LOCKS", &split_locks.to_string());
    let folders = ["bin", "dev", "proc"].map(folder);
    let files = [
        file("init", init.into_bytes()),
        file("bin/busybox", read(&programs.busybox)?),
        file("bin/lab-split", read(&programs.split)?),
    ];
    let bytes = archive(folders.into_iter().chain(files).collect())?;
    let path = lab
        .cache
        .folder("build")
        .join(format!("guest-{split_locks}.cpio"));
    output::write(&path, &bytes)?;
    Ok(path)
}

fn judge(kernel: &BootKernel, run: QemuRun, outcome: &Outcome) -> Result<Findings> {
    let mut findings = Findings::new(&format!("\n{}, {}", kernel.release, run.name));
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
    match run.expected {
        Expected::Hangs => {
            let trap = |event: &&&Event| event.guest && event.kind.is_alignment_check();
            let nanos = |event: &&Event| outcome.journal.nanos(event.tick);
            let first = events.iter().find(trap).map(nanos);
            let last = events.last().map(nanos);
            let spent = last
                .unwrap_or_default()
                .saturating_sub(first.unwrap_or(u64::MAX));
            let spent = Duration::from_nanos(spent);
            // Whoever waits for a CPU when a signal comes may get past all the same, now and then.
            findings.check(
                &format!(
                    "the guest hangs: {let_through} of its {} split locks are done {spent:.0?} and {traps} traps after the first",
                    run.split_locks
                ),
                spent >= HANGS_FOR && let_through * 2 <= run.split_locks,
            );
            findings.check(
                "the watch calls it a livelock",
                watch.contains(r#""to":"livelocked""#),
            );
        }
        Expected::Runs => {
            let spent = guest_seconds(&console)?;
            findings.check(
                &format!(
                    "the guest gets through all of its {} split locks in {spent:.1} s of its time, and powers off",
                    run.split_locks
                ),
                console.contains("qemu: 0"),
            );
            findings.check(
                &format!("{traps} of them trapped, and {let_through} were let through"),
                traps * 10 <= run.split_locks,
            );
            findings.say(&format!("         {}", outcome.printed(REPORT)?.trim_end()));
        }
        Expected::Crawls => {
            let spent = guest_seconds(&console)?;
            let done = console.contains("guest: done");
            findings.check(
                &format!(
                    "the guest gets through all of its {} split locks in {spent:.1} s of its time",
                    run.split_locks
                ),
                done && let_through == run.split_locks,
            );
            // Nothing interrupts its sleeps, so each trap ends with a window; one for each split lock would do.
            let unused = traps.saturating_sub(let_through);
            findings.check(
                &format!(
                    "{unused} of its {traps} windows were over before it came to its split lock, as the CPU has it"
                ),
                unused > 0,
            );
            // More than that: nothing tells a split lock that goes through from one that does not (docs/watch.md).
            findings.say(&format!(
                "       the watch takes {} of them for unused",
                seen("windows_unused")
            ));
        }
    }
    Ok(findings)
}

/// From the first split lock to the last, by the guest's clock.
fn guest_seconds(console: &str) -> Result<f64> {
    let at = |what: &str| -> Result<f64> {
        let line = console.lines().find_map(|line| line.split_once(what));
        let (_, seconds) =
            line.with_context(|| format!("the guest did not say {what:?}: {console}"))?;
        Ok(seconds.trim().parse()?)
    };
    Ok(at("guest: done at ")? - at("guest: begins at ")?)
}
