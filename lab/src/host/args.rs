//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use split_lock_lab::cpu::options::CpuOptions;
use split_lock_model::kernel::Profile;
use split_lock_model::time::Hz;

use super::kernel::built::tick_rate;
use super::kernel::variant::Variant;
use super::kernel::{KernelName, KernelSeries};

/// Hold the model of split locks against real Linux kernels.
#[derive(Debug, Parser)]
#[command(
    name = "cargo lab",
    after_help = "Exit codes: 0 everything agrees, 1 a kernel disagrees with the model, 2 it could not be tried."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Check(CheckArgs),
    /// Count the instructions that getting a guest past a split lock takes: an exit, an emulated instruction, a stall.
    #[command(after_help = "Example:\n  cargo lab cost --kernel 6.12")]
    Cost(Kernels),
    /// Run `splitlock demo linux` in a machine: a Linux guest that hangs, one that a guard gets through, and one
    /// whose host detects nothing.
    #[command(after_help = "Example:\n  cargo lab demo --kernel 6.12")]
    Demo(Kernels),
    /// Look for faults that the CPU which detects split locks has shown once: runs that end too late, rates that are none,
    /// a guest that hangs without a word.
    #[command(after_help = "Example:\n  cargo lab faults --kernel 6.12")]
    Faults(Kernels),
    /// Only download what these kernels and the scenes take, so that all of it can be done offline.
    #[command(
        mut_arg("kernel", |arg| arg.default_values(["6.1", "6.12", "newest", "6.12@1000"])),
        after_help = "Example:\n  cargo lab fetch --kernel newest --kernel 6.12@1000"
    )]
    Fetch(Kernels),
    /// Hold what `splitlock find` names in programs that split locks of all kinds against where the CPU traps, and how
    /// often; and what it names in a guest against what it names in the guest's programs alone.
    #[command(after_help = "Example:\n  cargo lab find --kernel 6.1")]
    Find(Kernels),
    Kernel(KernelArgs),
    Oops(OopsArgs),
    Patch(PatchArgs),
    Policies(PoliciesArgs),
    /// Run programs that timers, profilers and runtimes interrupt while they split locks, and print which of them hang, and
    /// how much slower the others are. The kernel needs the sysctl kernel.split_lock_mitigate.
    #[command(after_help = "Example:\n  cargo lab programs --kernel 6.12 --kernel newest")]
    Programs(Kernels),
    /// Let `splitlock watch --relieve` get a guest and a program out of their livelocks, beside a thread that merely splits
    /// locks, and see what those gain that make a livelock on purpose.
    #[command(
        mut_arg("kernel", |arg| arg.default_value("newest")),
        after_help = "Example:\n  cargo lab relieve --kernel newest"
    )]
    Relieve(Kernels),
    /// Run the kselftest of split locks: unmodified kernels fail it, those with a change of `cargo lab patch` pass.
    #[command(
        mut_arg("kernel", |arg| arg.default_values(["6.12@1000", "6.12@1000+killable"])),
        after_help = "Example:\n  cargo lab selftest --kernel newest@1000+sentence"
    )]
    Selftest(Kernels),
    Shell(ShellArgs),
    /// Run guests in Debian's unmodified QEMU and in a VMM in C, which hang or crawl at split locks; then with
    /// `splitlock run`.
    #[command(after_help = "Example:\n  cargo lab survive --kernel 6.12")]
    Survive(Kernels),
    Tools(ToolsArgs),
    /// Hold what `splitlock watch` says of threads that split locks against what the kernel did to them.
    #[command(
        mut_arg("kernel", |arg| arg.default_values(["6.1", "6.12"])),
        after_help = "Example:\n  cargo lab watch --kernel 6.12"
    )]
    Watch(Kernels),
    Windows(WindowsArgs),
}

// Without a documentation comment, which would be that of each command.
#[derive(Debug, Args)]
pub(crate) struct Kernels {
    /// The kernel to boot, and that of Linux guests: Debian's, by series, one with another tick rate or an edit, or a
    /// bzImage; can be given several times.
    #[arg(long, value_name = "SERIES[@HZ[+EDIT]]|FILE", default_value = "6.12")]
    pub(crate) kernel: Vec<KernelName>,
}

/// Boot unmodified kernels on a CPU in software that detects split locks, and hold every trap against the model.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo lab check\n  \
    cargo lab check --kernel 6.12 --machine four-cpus\n  \
    cargo lab check --kernel linux/arch/x86/boot/bzImage\n  \
    cargo lab check --phases 1000")]
pub(crate) struct CheckArgs {
    /// Debian's kernel to boot, by series, one with another tick rate, or a bzImage; can be given several times.
    #[arg(long, value_name = "SERIES[@HZ]|FILE", default_values = ["6.1", "6.12", "newest", "6.12@1000", "6.12@100"])]
    pub(crate) kernel: Vec<KernelName>,
    /// What the kernels should do, for the model: `6.16`; what their releases do if not given.
    #[arg(long, value_name = "KERNEL")]
    pub(crate) profile: Option<Profile>,
    /// Boot on this machine only; can be given several times.
    #[arg(long, value_name = "NAME")]
    pub(crate) machine: Vec<String>,
    /// Instead of everything, try signals and ticks that meet: short experiments, each begun at so many moments within
    /// a tick.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) phases: Option<u32>,
    /// Of the CPUs' random numbers. The same seed makes the same run.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u32,
}

/// Build a small kernel with another tick rate from Debian's source, and print where it is. `--kernel SERIES@HZ` of the
/// other commands does the same.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo lab kernel --source 6.12 --hz 1000")]
pub(crate) struct KernelArgs {
    /// Debian's series, or `newest`.
    #[arg(long, value_name = "SERIES", default_value = "6.12")]
    pub(crate) source: KernelSeries,
    /// Ticks a second: 100, 250, 300 or 1000.
    #[arg(long, value_name = "HZ", default_value = "1000", value_parser = tick_rate)]
    pub(crate) hz: Hz,
    /// Build it with one of the project's edits.
    #[arg(long, value_enum)]
    pub(crate) edit: Option<Variant>,
}

/// Make the kernel itself split a lock, and a program in mode `fatal`, and look at what the kernel's log says of it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo lab oops --out oops")]
pub(crate) struct OopsArgs {
    /// A kernel built with the edit `kernel-mode`; can be given several times.
    #[arg(long, value_name = "SERIES@HZ+kernel-mode", default_values = ["6.12@1000+kernel-mode"])]
    pub(crate) kernel: Vec<KernelName>,
    /// A folder to write the serial logs and the kernels' logs to.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// Write patches for Linux that end the livelock, for `git am`: a change of the kernel, and a kselftest.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cargo lab patch --source 6.12 --policy killable --author 'A Hacker <hacker@example.org>'"
)]
pub(crate) struct PatchArgs {
    /// Debian's series, or `newest`.
    #[arg(long, value_name = "SERIES", default_value = "6.12")]
    pub(crate) source: KernelSeries,
    /// The change: `killable` is the smallest, `sentence` the one that delays signals least.
    #[arg(long, value_enum, default_value = "killable")]
    pub(crate) policy: Variant,
    /// A folder for the series, which may hold another one; otherwise one in the lab's folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Who signs them off; otherwise whoever git's settings name.
    #[arg(long, value_name = "NAME <MAIL>")]
    pub(crate) author: Option<String>,
}

/// Measure what kernels with each of our changes do to threads that split locks: progress under timers, what an attacker
/// gains, how long signals wait; and hold each trap against the model of that change.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo lab policies --short\n  \
    cargo lab policies --kernel newest@1000 --kernel newest@1000+sentence")]
pub(crate) struct PoliciesArgs {
    /// The kernel to boot; can be given several times.
    #[arg(
        long,
        value_name = "SERIES[@HZ[+EDIT]]|FILE",
        default_values = ["6.12@1000", "6.12@1000+killable", "6.12@1000+sentence"]
    )]
    pub(crate) kernel: Vec<KernelName>,
    /// Only a few timers, with fewer moments within a tick.
    #[arg(long)]
    pub(crate) short: bool,
}

/// Run the project's own tools in a machine: sweeps with and without guards, a report, the doctor, the log, an explanation.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo lab tools --out docs/figures")]
pub(crate) struct ToolsArgs {
    /// Debian's kernel to boot, by series, one with another tick rate, or a bzImage.
    #[arg(long, value_name = "SERIES[@HZ]|FILE", default_value = "6.12")]
    pub(crate) kernel: KernelName,
    /// A folder to write the sweeps and their figures to.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// Count the split locks in each window of detection that a thread gets which splits locks without pause, and hold the
/// model against them.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo lab windows --kernel 6.12 --bus-lock-ns 700000")]
pub(crate) struct WindowsArgs {
    /// Debian's kernel to boot, by series, one with another tick rate, or a bzImage; can be given several times.
    #[arg(long, value_name = "SERIES[@HZ]|FILE", default_values = ["6.1", "6.12", "6.12@1000", "newest"])]
    pub(crate) kernel: Vec<KernelName>,
    /// How long a bus lock takes, in nanoseconds; can be given several times.
    #[arg(
        long,
        value_name = "NS",
        default_values = ["100000", "500000", "700000", "1500000"],
        value_parser = clap::value_parser!(u32).range(1000..=10_000_000)
    )]
    pub(crate) bus_lock_ns: Vec<u32>,
}

/// A console on a machine whose CPU detects split locks.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cargo lab shell --kernel linux/arch/x86/boot/bzImage --with my-program"
)]
pub(crate) struct ShellArgs {
    /// Debian's kernel to boot, by series, one with another tick rate, or a bzImage.
    #[arg(long, value_name = "SERIES[@HZ]|FILE", default_value = "6.12")]
    pub(crate) kernel: KernelName,
    /// A file to lay into the machine's root folder; can be given several times. Programs have to be static.
    #[arg(long, value_name = "FILE")]
    pub(crate) with: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) cpu: CpuOptions,
}
