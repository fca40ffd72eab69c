//! The command line of `find`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Find the instructions of a program, or of a guest and its firmware, that split locks, on any CPU.
///
/// The program runs in QEMU's user-mode emulator, which shows every locked access to memory to a plugin. Nothing is
/// sampled, no privilege is needed, and the CPU need not detect anything. Programs that it executes are followed. Standard
/// streams, signals and the exit code are the program's; a program that a signal has ended counts as 128 and the signal's
/// number.
///
/// With --system the program is QEMU's system emulator, and a guest is watched from its first instruction on.
///
/// A page with the instructions goes to standard error when the program ends, and when this command gets SIGUSR1. With
/// --json or --format sarif the result goes to standard output, and the program's standard output to standard error;
/// --out names a file instead.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    splitlock find -- ./my-program --its-option\n  \
    splitlock find --fail-on split --suppress known.supp -- make check\n  \
    splitlock find --format sarif --out split-locks.sarif -- cargo test\n  \
    splitlock find --system --symbols System.map -- qemu-system-x86_64 -m 1G -nographic disk.img\n\n\
    Exit codes: the program's; 1 if a split lock was seen and --fail-on split was given; 3 if something was not watched \
    and --fail-on unwatched was given; 2 also if it could not be started.")]
pub(crate) struct FindArgs {
    /// How the result is written.
    #[arg(long, value_enum, default_value_t = FindFormat::Text)]
    format: FindFormat,
    /// Short for `--format json`.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Write the result to this file, which appears whole or not at all.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// End with exit code 1 if a split lock was seen that is not suppressed, or with 3 if a program or an instruction was
    /// not watched.
    #[arg(long, value_enum, value_name = "PROBLEM", value_delimiter = ',')]
    pub(crate) fail_on: Vec<FindFailOn>,
    /// Split locks that are known: blocks of `fun:`, `obj:` and `src:` in braces. May be given several times.
    #[arg(long, value_name = "FILE")]
    pub(crate) suppress: Vec<PathBuf>,
    /// The folder that has QEMU's emulators, instead of those of PATH.
    #[arg(long, value_name = "DIR")]
    pub(crate) qemu: Option<PathBuf>,
    /// The program is qemu-system-x86_64 or qemu-system-i386: watch its guest.
    #[arg(long)]
    pub(crate) system: bool,
    /// Symbols of the guest: vmlinux or another ELF file, or System.map. May be given several times.
    #[arg(long, value_name = "FILE", requires = "system")]
    pub(crate) symbols: Vec<PathBuf>,
    /// The program and its arguments.
    #[arg(required = true, last = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<OsString>,
}

impl FindArgs {
    pub(crate) fn format(&self) -> FindFormat {
        match self.json {
            true => FindFormat::Json,
            false => self.format,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FindFormat {
    /// A page for people.
    Text,
    /// JSON, described in docs/find.md.
    Json,
    /// SARIF 2.1.0, which code hosts show at the lines.
    Sarif,
}

/// A problem to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FindFailOn {
    /// An instruction has split a lock.
    Split,
    /// Something was not watched.
    Unwatched,
}
