//! The check: an unmodified kernel takes real #ACs, and it and the CPU tell the same of each of them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use split_lock_lab::cpu::journal::Event;
use split_lock_lab::cpu::options::Vendor;
use split_lock_lab::cpu::script::{Command, KERNEL_LOG, Script, TRACE};
use split_lock_lab::cpu::trace::{PROBES, Trap, hexadecimal, logged_addresses, traps};

use super::kernel::BootKernel;
use super::machine::Limits;
use super::{Lab, Outcome, rootfs};
use crate::host::args::CpuArgs;
use crate::host::lab::{bytes, output_of};
use crate::host::step::step;

const PROGRAM: &str = "program";
const GUEST: &str = "guest";

/// Of the program, one after the other: the kernel logs the first trap of each.
const THREADS: usize = 3;

/// Boot and script take about 20 s of the machine's time, and twice that of everybody's.
const LIMITS: Limits = Limits {
    guest: Duration::from_secs(120),
    wall: Duration::from_secs(300),
};

/// A trap that is still being handled right after boot meets a busy kernel.
const SETTLE_MS: u64 = 3000;

/// Whether all kernels and the CPU tell the same, and the same twice.
pub(crate) fn run(args: &CpuArgs) -> Result<bool> {
    let options = args.cpu.options();
    let lab = Lab::open(options.cpus)?;
    let mut is_fine = true;
    for name in &args.kernel {
        let kernel = step(&format!("kernel {name}"), || {
            BootKernel::get(name, &lab.cache)
        })?;
        let boot = |run: &str| {
            let what = format!("booting {} ({run} run)", kernel.release);
            let folder = lab.results(&kernel, run);
            let boot = || {
                lab.boot(
                    &folder,
                    &kernel,
                    &script(&kernel, options.vendor),
                    &options,
                    LIMITS,
                )
            };
            step(&what, boot)
        };
        let first = boot("first")?;
        is_fine &= compare(&kernel, &first, &lab.results(&kernel, "first"))?;
        if !args.once {
            is_fine &= is_repeated(&first, &boot("second")?);
        }
    }
    Ok(is_fine)
}

fn script(kernel: &BootKernel, vendor: Vendor) -> Script {
    let program = format!("/bin/lab-split --threads {THREADS} --count 2 --pause-ms 30");
    let mut script = Script {
        modules: rootfs::kvm_modules(kernel, vendor),
        probes: PROBES.map(str::to_owned).into(),
        settle_ms: SETTLE_MS,
        commands: vec![Command::new(PROGRAM, &program)],
        ..Script::default()
    };
    if kernel.modules.is_some() {
        let guest =
            "/bin/splitlock sweep --guest split --timeouts 30ms --repeat 3 --seed 1 --csv -";
        script.commands.push(Command::new(GUEST, guest));
    }
    script
}

/// Holds the kernel's trace and log, what the programs say, and the CPU's journal against each other.
fn compare(kernel: &BootKernel, outcome: &Outcome, folder: &Path) -> Result<bool> {
    let text = |name| bytes(&outcome.bundles, name).map(String::from_utf8_lossy);
    let traced = traps(&text(TRACE)?);
    let raised: Vec<&Event> = outcome.journal.alignment_checks().collect();
    let logged = logged_addresses(&text(KERNEL_LOG)?);
    let [said, complaints, code] = output_of(&outcome.bundles, PROGRAM)?;
    ensure!(code == "0", "lab-split failed: {}", complaints.trim());
    let address = said
        .rsplit(' ')
        .next()
        .and_then(|word| hexadecimal(word.trim()));
    let in_program = |ip: &u64| Some(*ip) == address;
    let guests = raised.iter().filter(|event| event.guest).count();
    let mut checks = vec![
        (
            "each trap of the kernel's trace is an #AC of the CPU's journal, at the same address, in the same order",
            is_same(&traced, &raised),
        ),
        (
            "the log names the program's instruction once for each thread",
            logged.iter().filter(|ip| in_program(ip)).count() == THREADS,
        ),
        (
            "the program trapped once for each of its split locks",
            raised.iter().filter(|event| in_program(&event.rip)).count() == 2 * THREADS,
        ),
    ];
    if kernel.modules.is_some() {
        let [_, complaints, code] = output_of(&outcome.bundles, GUEST)?;
        ensure!(code == "0", "splitlock sweep failed: {}", complaints.trim());
        checks.push(("a guest trapped in kvm_intel", guests > 0));
    }
    println!(
        "\n{}: {} traps traced by the kernel, {} #AC raised by the CPU ({guests} in guests), {} logged",
        kernel.release,
        traced.len(),
        raised.len(),
        logged.len()
    );
    for (what, is_so) in &checks {
        println!("  {} {what}", if *is_so { "yes:" } else { "NO: " });
    }
    println!("  all of it: {}", folder.display());
    Ok(checks.iter().all(|(_, is_so)| *is_so))
}

fn is_same(traced: &[Trap], raised: &[&Event]) -> bool {
    let traced = traced.iter().map(|trap| trap.ip);
    !raised.is_empty() && traced.eq(raised.iter().map(|event| event.rip))
}

fn is_repeated(first: &Outcome, second: &Outcome) -> bool {
    let is_same = first.journal_text == second.journal_text;
    let lines = first.journal_text.lines().count();
    let verdict = if is_same { "yes:" } else { "NO: " };
    println!(
        "  {verdict} a second run with the same seed has the same journal, to the byte ({lines} lines)"
    );
    is_same
}
