//! The command line of `log`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Print the split locks and bus locks that kernel logs tell of.
///
/// Reads what dmesg and journalctl print (in colours, as JSON or as export, too), syslog files, what is
/// left of them after a mail program has quoted and wrapped them, and files that are compressed with gzip,
/// xz or zstd. What a kernel says about detection when it starts is printed as well, and so are messages
/// that are damaged: as they are.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sudo dmesg | splitlock log -\n  \
    sudo splitlock log /dev/kmsg\n  \
    splitlock log /var/log/kern.log /var/log/kern.log.2.gz\n  \
    journalctl -k -o json | splitlock log - --format json\n\n\
    Exit codes: 0 everything was read, whatever it says, 2 usage or environment error.")]
pub(crate) struct LogArgs {
    /// Logs; `-` is standard input, and /dev/kmsg is what the kernel remembers.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// A table for people; JSON, one object to a line; or CSV.
    #[arg(long, value_enum, default_value_t = LogFormat::Table)]
    pub(crate) format: LogFormat,
}

/// How events are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Table,
    Json,
    Csv,
}
