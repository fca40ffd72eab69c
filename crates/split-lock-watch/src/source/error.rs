//! Why a kernel cannot be watched, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Why nothing can be watched here.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The kernel could tell, and the place where it does is not there.
    #[error("cannot see the kernel's tracepoints: tracefs is not mounted; `mount -t tracefs tracefs {}` as root", at.display())]
    NoTracefs {
        /// Where it belongs.
        at: PathBuf,
    },
    /// The kernel has no tracing at all.
    #[error(
        "cannot watch this kernel: it has no tracing (CONFIG_FTRACE and CONFIG_PERF_EVENTS, which distributions' kernels have)"
    )]
    NoTracing,
    /// Somebody else may.
    #[error("not permitted to {what}: run this as root on the host{}", lockdown(*.is_locked_down))]
    Denied {
        /// What is not permitted.
        what: String,
        /// The kernel keeps such things even from root.
        is_locked_down: bool,
    },
    /// The kernel does not tell of what is needed.
    #[error("cannot watch this kernel: it has no tracepoint {0}")]
    NoTracepoint(&'static str),
    /// The kernel does nothing about split locks.
    #[error(
        "there is nothing to watch: this kernel has no split-lock detection (it came with 5.7, and needs CONFIG_CPU_SUP_INTEL or, since 6.13, CONFIG_X86_BUS_LOCK_DETECT)"
    )]
    NoHandler,
    /// Nothing would tell that a thread traps.
    #[error("cannot see who traps: there are no kernel probes, and {why}")]
    NoTraps {
        /// Why sleeps do not tell either.
        why: &'static str,
    },
    /// Threads have other ids in a container than the kernel calls them by.
    #[error(
        "cannot tell threads apart in here, where they have ids of their own: run this on the host"
    )]
    Contained,
    /// Files are opened for each CPU.
    #[error(
        "cannot open perf events on {cpus} CPUs: too many open files; raise the limit with `ulimit -n {needed}`"
    )]
    TooManyFiles {
        /// How many CPUs there are.
        cpus: usize,
        /// How many files that takes.
        needed: usize,
    },
    /// Something else.
    #[error("cannot {what}: {source}")]
    Failed {
        /// What was tried, and on what.
        what: String,
        /// How it failed.
        source: io::Error,
    },
}

fn lockdown(is_locked_down: bool) -> &'static str {
    match is_locked_down {
        true => {
            " (the kernel is locked down, see /sys/kernel/security/lockdown: then not even root may)"
        }
        false => "",
    }
}

impl WatchError {
    pub(super) fn of(what: impl Into<String>, error: io::Error) -> Self {
        let what = what.into();
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied {
                what,
                is_locked_down: is_locked_down(),
            },
            _ => Self::Failed {
                what,
                source: error,
            },
        }
    }
}

/// `none integrity [confidentiality]`: only the last one refuses tracing.
fn is_locked_down() -> bool {
    let modes = std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    modes.contains("[confidentiality]")
}
