//! The command line of `run`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Start a program that runs virtual machines, so that its guests get past split locks.
///
/// The program is not changed and needs no privilege that it has not: it is started with a library (LD_PRELOAD) that finds
/// vCPUs which Linux is punishing for a split lock, and does the instruction in the CPU's place. The host's protection
/// stays on, and no bus is locked. What the program starts is covered as well.
///
/// It says what was done when the program ends, and when it gets SIGUSR1. Other signals are passed on, and so is the exit code;
/// a program that a signal has ended counts as 128 and the signal's number.
///
/// Not covered, and not started: static programs, programs with set-user-ID or capabilities, and those of another C library.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    splitlock run -- qemu-system-x86_64 -enable-kvm -m 4G disk.img\n  \
    splitlock run --guard report --stats stalls.json -- ./my-vmm\n\n\
    Exit codes: the program's; 2 also if it cannot be covered, and was not started.")]
pub(crate) struct RunArgs {
    /// What to do for a vCPU that is punished.
    #[arg(
        long,
        value_enum,
        value_name = "emulate|report",
        default_value = "emulate"
    )]
    pub(crate) guard: Guard,
    /// Write what was done to this file when the program ends, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) stats: Option<PathBuf>,
    /// Print what was done as JSON, one line on standard error.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print nothing but errors.
    #[arg(long, conflicts_with = "json")]
    pub(crate) quiet: bool,
    /// The program and its arguments.
    #[arg(required = true, last = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Guard {
    /// Do the instruction in the CPU's place.
    Emulate,
    /// Only tell.
    Report,
}

impl Guard {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Emulate => "emulate",
            Self::Report => "report",
        }
    }
}
