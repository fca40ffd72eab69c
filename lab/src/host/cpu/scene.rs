//! The check: an unmodified kernel takes real #ACs, and it and the CPU tell the same of each of them.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Result, ensure};
use split_lock_lab::cpu::options::{CpuOptions, Detect};
use split_lock_lab::cpu::script::{Command, KERNEL_LOG, Script, TRACE};
use split_lock_lab::cpu::trace::{PROBES, hexadecimal, logged_addresses, traps};

use super::accounts::{Accounts, COUNT, THREADS};
use super::kernel::BootKernel;
use super::kernel_config::Kvm;
use super::lab::Lab;
use super::machine::{Limits, Outcome};
use super::rootfs;
use super::runner::{self, Findings, Scene};
use crate::host::args::CpuArgs;
use crate::host::lab::{bytes, output_of};

const PROGRAM: &str = "program";
const GUEST: &str = "guest";

/// Boot and script take about 20 s of guest time, and twice that of wall-clock time.
const LIMITS: Limits = Limits {
    guest: Duration::from_secs(120),
    wall: Duration::from_secs(300),
};

/// A trap that is still being handled right after boot meets a busy kernel.
const SETTLE_MS: u64 = 3000;

/// Whether all kernels and the CPU tell the same, and the same twice.
pub(in crate::host) fn run(args: &CpuArgs) -> Result<bool> {
    let options = args.cpu.options()?;
    let lab = Lab::open([options.cpus])?;
    let kernels = lab.kernels(&args.kernel)?;
    let runs: &[&str] = if args.once {
        &["first"]
    } else {
        &["first", "second"]
    };
    let journals: Vec<OnceLock<String>> = kernels.iter().map(|_| OnceLock::new()).collect();
    let mut scenes = Vec::new();
    for (kernel, journal) in kernels.iter().zip(&journals) {
        scenes.extend(runs.iter().map(|run| Scene {
            name: format!("{run} run"),
            kernel,
            options,
            boot_words: "",
            script: script(kernel, &options),
            limits: LIMITS,
            judge: Box::new(move |outcome, folder| {
                let mut findings = compare(kernel, &options, outcome, folder)?;
                check_repeated(&mut findings, journal, &outcome.journal_text);
                Ok(findings)
            }),
        }));
    }
    runner::run(&lab, scenes)
}

fn script(kernel: &BootKernel, options: &CpuOptions) -> Script {
    let program = format!("/bin/lab-split --threads {THREADS} --count {COUNT} --pause-ms 30");
    let mut commands = vec![Command::new(PROGRAM, &program)];
    if has_guest(kernel, options) {
        let guest =
            "/bin/splitlock sweep --guest split --timeouts 30ms --repeat 3 --seed 1 --csv -";
        commands.push(Command::new(GUEST, guest));
    }
    Script {
        modules: rootfs::kvm_modules(kernel, options.vendor),
        probes: PROBES.map(str::to_owned).into(),
        settle_ms: SETTLE_MS,
        commands,
        ..Script::default()
    }
}

/// Guests raise #AC only.
fn has_guest(kernel: &BootKernel, options: &CpuOptions) -> bool {
    kernel.kvm(options.vendor) != Kvm::Missing
        && matches!(options.detect, Detect::SplitLock | Detect::Both)
}

/// Prints what the kernel, the program and the CPU tell, and whether it is the same.
fn compare(
    kernel: &BootKernel,
    options: &CpuOptions,
    outcome: &Outcome,
    folder: &Path,
) -> Result<Findings> {
    let text = |name| bytes(&outcome.bundles, name).map(String::from_utf8_lossy);
    let [said, complaints, code] = output_of(&outcome.bundles, PROGRAM)?;
    ensure!(code == "0", "lab-split failed: {}", complaints.trim());
    let with_guest = has_guest(kernel, options);
    if with_guest {
        let [_, complaints, code] = output_of(&outcome.bundles, GUEST)?;
        ensure!(code == "0", "splitlock sweep failed: {}", complaints.trim());
    }
    let accounts = Accounts {
        traced: traps(&text(TRACE)?),
        logged: logged_addresses(&text(KERNEL_LOG)?),
        events: outcome.journal.events.clone(),
        instruction: said
            .rsplit(' ')
            .next()
            .and_then(|word| hexadecimal(word.trim())),
    };
    let mut findings = Findings::new(&format!("\n{}: {accounts}", kernel.release));
    for (what, is_so) in accounts.checks(options.detect, with_guest) {
        findings.check(what, is_so);
    }
    findings.say(&format!("  all of it: {}", folder.display()));
    Ok(findings)
}

/// The run that is done first leaves its journal for the other one to be held against.
fn check_repeated(findings: &mut Findings, first: &OnceLock<String>, journal: &str) {
    if let Err(journal) = first.set(journal.to_owned()) {
        let lines = journal.lines().count();
        let what = format!(
            "another run with the same seed has the same journal, to the byte ({lines} lines)"
        );
        findings.check(&what, first.get() == Some(&journal));
    }
}
