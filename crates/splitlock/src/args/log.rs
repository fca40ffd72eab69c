//! The command line of `log`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Print the split locks and bus locks that kernel logs tell of.
///
/// Reads what dmesg and journalctl print (in colours, as JSON or as export, too), what syslog daemons, containers and
/// collectors of logs make of that, what is left of it after a mail program, a web page or a terminal has quoted and
/// wrapped it, text in UTF-16, and files that are compressed (gzip, bzip2, xz, lzma, zstd) or in an archive (tar,
/// zip). What a kernel says about detection when it starts is printed as well, and so are messages that are damaged:
/// as they are. If a file cannot be read, the others are.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sudo dmesg | splitlock log -\n  \
    sudo splitlock log /dev/kmsg\n  \
    splitlock log /var/log/kern.log /var/log/kern.log.2.gz\n  \
    journalctl -k -o json | splitlock log - --json\n\n\
    Exit codes: 0 everything was read, whatever it says, 2 usage or environment error, or a file that could not be read.")]
pub(crate) struct LogArgs {
    /// Logs; `-` is standard input, and /dev/kmsg is what the kernel remembers.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// A table for people; JSON, one object to a line; or CSV.
    #[arg(long, value_enum, default_value_t = LogFormat::Table)]
    format: LogFormat,
    /// Short for `--format json`.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

impl LogArgs {
    pub(crate) fn format(&self) -> LogFormat {
        match self.json {
            true => LogFormat::Json,
            false => self.format,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Table,
    Json,
    Csv,
}
