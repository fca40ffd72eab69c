//! The command line of what measures guests, and draws it: `reproduce`, `sweep`, `plot`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use split_lock_assist::guard::Reaction;
use split_lock_repro::guest::{Level, Register};
use split_lock_repro::program::Timer;

use super::Host;
use super::values::{Offsets, Timeouts, duration, positive_duration};

/// Measure how far a splitting guest gets before its pending timeout, and write a report.
///
/// Runs a guest that splits a lock, and one that does not, under pending timeouts from 1 ms to
/// 49 ms, and shows beside them what this host's kernel does where split locks are detected (or are
/// not), from the model; then the splitting one with its operand at every offset of a cache line; then what its
/// bus locks do to a neighbour. Takes about a minute. Without /dev/kvm everything is modelled.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  splitlock reproduce --out my-report && xdg-open my-report/report.html\n\n\
    Exit codes: 0 fine, 2 usage or environment error, 130 stopped by Ctrl-C with everything measured so far written."
)]
pub(crate) struct ReproduceArgs {
    /// Folder for the report, its figures and its data. A report that is there is replaced, each
    /// file as a whole; anything else that is there is left alone, with an error.
    #[arg(long, value_name = "DIR", default_value = "splitlock-report")]
    pub(crate) out: PathBuf,
    /// Runs of each guest at each timeout.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: u32,
    /// Decides on the random order of the runs; chosen anew each time and recorded if not given.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Write no PNGs beside the SVGs. Drawing them is what takes longest on a slow CPU.
    #[arg(long)]
    pub(crate) no_png: bool,
    /// The KVM device.
    #[arg(long, value_name = "DEVICE", default_value = "/dev/kvm")]
    pub(crate) kvm: PathBuf,
}

/// Measure how far guests get before a pending timeout, or a program beside a timer of its own.
///
/// Guests: split (the reference loop, crosses a cache line), aligned (the same code, not crossing),
/// page (crosses a page), xchg (locks without a prefix), cmpxchg16b (cannot cross), none (no lock),
/// sparse:1ms (one split lock after each 1 ms of ordinary work; any duration), contend (all vCPUs count
/// on one word that crosses a line), or a flat binary. NAME@OFFSET puts the operand at another offset (0 to 63) of its cache line.
///
/// With --program no guest runs, but a process that splits a lock in a loop while a timer of its own sends it signals; the
/// timeouts are the timer's periods, and all runs are of one length. It needs no KVM. Where a KERNEL is given, the split lock
/// raises SIGBUS, and its handler sleeps and waits as that kernel does.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    splitlock sweep --guest split --timeouts 1ms..20ms/1ms --csv out.csv\n  \
    splitlock sweep --guest split --offsets 0..63 --timeouts 10ms\n  \
    splitlock sweep --host 6.6,hz=250 --guard auto --timeouts 1ms..20ms/1ms\n  \
    splitlock sweep --on model --host 6.6,hz=1000 --csv model.csv\n  \
    splitlock sweep --guest sparse:100us,sparse:100us@0 --timeouts 1ms..20ms/1ms\n  \
    splitlock sweep --guest aligned --vcpus 2 --neighbour split --timeouts 20ms --repeat 20\n  \
    splitlock sweep --guest contend --vcpus 2 --timeouts 20ms\n  \
    splitlock sweep --program --timer itimer-real,thread-cpu --host 6.12,hz=250 --csv programs.csv\n  \
    splitlock sweep --guest ./my-guest.bin --load-address 0x200000 --counter rax\n\n\
    Exit codes: 0 fine, 2 usage or environment error, 130 stopped by Ctrl-C with everything measured so far written.")]
pub(crate) struct SweepArgs {
    /// Backend: KVM (with --program a process), or the model.
    #[arg(long, value_enum, value_name = "kvm|model", default_value_t = On::Kvm)]
    pub(crate) on: On,
    /// Measure a program with a timer instead of guests.
    #[arg(long, conflicts_with_all = ["guard", "guest", "offsets", "warm_up", "vcpus", "neighbour", "level", "load_address", "counter", "kvm"])]
    pub(crate) program: bool,
    /// The program's timers, separated by commas, each measured by itself: itimer-real is setitimer(ITIMER_REAL); the others
    /// are timer_create with CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID and CLOCK_THREAD_CPUTIME_ID; or none.
    #[arg(
        long,
        value_name = "itimer-real|monotonic|process-cpu|thread-cpu|none",
        value_delimiter = ',',
        default_value = "itimer-real,thread-cpu",
        requires = "program"
    )]
    pub(crate) timer: Vec<Timer>,
    /// How long each run of the program is.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration, default_value = "100ms", requires = "program")]
    pub(crate) length: Duration,
    /// What detects split locks: `native` is this host, and on the model this host's kernel. With a
    /// KERNEL such as `6.6,hz=1000` or `debian-12` the guest's split locks really trap, and the vCPU's
    /// thread is then treated as that kernel treats it.
    #[arg(long, value_name = "native|KERNEL", default_value = "native")]
    pub(crate) host: Host,
    /// What to do about a guest that split locks hold up. `report` says where; `grace` lets a run last
    /// until the kernel is done with its punishment; `emulate` does the instruction in the CPU's place;
    /// `auto` emulates, and where that cannot be done it lets a run last.
    #[arg(
        long,
        value_name = "off|report|grace|emulate|auto",
        default_value = "off"
    )]
    pub(crate) guard: Reaction,
    /// How long a split lock takes on the model.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1100ns")]
    pub(crate) split_cost: Duration,
    /// Guests to measure: names separated by commas, or a file; can be given several times.
    #[arg(long, value_name = "NAME|FILE", default_value = "split")]
    pub(crate) guest: Vec<String>,
    /// Measure each guest with its operand at each of these offsets within a cache line: `0..63`,
    /// `56,57`, `0..63/8`.
    #[arg(long, value_name = "RANGE")]
    pub(crate) offsets: Option<Offsets>,
    /// Pending timeouts: `FIRST..LAST/STEP`, single ones, or several of either separated by commas.
    #[arg(
        long,
        value_name = "RANGE",
        default_value = "1ms..49ms/1ms",
        allow_hyphen_values = true
    )]
    pub(crate) timeouts: Timeouts,
    /// Runs of each guest at each timeout.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: u32,
    /// Runs of each guest before the first that counts.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) warm_up: u32,
    /// Pause before each run. Without this option 40ms where this host detects split locks, so that
    /// no run profits from detection that the one before it left switched off, and none elsewhere.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) settle: Option<Duration>,
    /// vCPUs that run at once, each with a timeout of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) vcpus: u32,
    /// What all vCPUs but the first run. Each guest is then measured twice, alone and beside them.
    /// Without this option all vCPUs run the same guest.
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) neighbour: Option<String>,
    /// Privilege level of the guest: cpl3 runs natively on any KVM, cpl0 is emulated by some.
    #[arg(long, value_name = "cpl0|cpl3", default_value = "cpl3")]
    pub(crate) level: Level,
    /// Guest address that a file is loaded to and started at.
    #[arg(long, value_name = "ADDRESS", value_parser = address, default_value = "0x100000")]
    pub(crate) load_address: u64,
    /// Register in which a file counts its turns.
    #[arg(long, value_name = "REGISTER", default_value = "rcx")]
    pub(crate) counter: Register,
    /// Decides on the random order of the runs; chosen anew each time and recorded if not given.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// The KVM device.
    #[arg(long, value_name = "DEVICE", default_value = "/dev/kvm")]
    pub(crate) kvm: PathBuf,
    /// Write a table; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// Write JSON; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum On {
    /// Real guests on /dev/kvm, or a real process.
    Kvm,
    /// The model of the kernel: no guest and no process runs.
    Model,
}

/// Draw one or several sweeps.
///
/// The ending of the output's name decides: .svg, .png, or .html for a page with figures, tables
/// and the data.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  splitlock plot out.csv --out out.svg\n\n\
    Exit codes: 0 fine, 2 usage or environment error.")]
pub(crate) struct PlotArgs {
    /// Sweeps, as CSV or JSON; `-` is CSV from standard input.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Where to draw to.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Width of a PNG in pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = 1600, value_parser = clap::value_parser!(u32).range(200..=4000))]
    pub(crate) width: u32,
}

fn address(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "an address is a number such as 0x100000".into())
}
