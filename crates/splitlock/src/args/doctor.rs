//! The command line of `doctor`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Is this host affected, who is hit, what does it cost, and what is the least fix?
///
/// Looks at the CPU, the kernel, its settings and its log; says what may become of whoever splits a lock
/// here, how sure that is, who has done so, what each of them pays, and what to do. Reads only. More is seen as root:
/// the log and other users' processes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sudo splitlock doctor\n  \
    journalctl -k -b | splitlock doctor --log -\n  \
    sudo splitlock doctor --capture my-host.tar --redact\n  \
    splitlock doctor --root my-host.tar --json\n  \
    splitlock doctor --from lscpu.txt dmesg.txt\n  \
    sudo splitlock doctor --format prometheus --out /var/lib/prometheus/node-exporter/splitlock.prom\n\n\
    Exit codes: 0 not affected, 1 affected or can be, 2 usage or environment error, \
    3 could not see enough to say.")]
pub(crate) struct DoctorArgs {
    /// Look at another machine: its root directory, or a capture of it (for what else was sent of it: --from).
    #[arg(long, value_name = "DIR|FILE.tar", default_value = "/")]
    pub(crate) root: PathBuf,
    /// Judge another machine by what was sent of it: the output of lscpu, uname -a, sysctl -a, inxi -Fa, dmesg or journalctl,
    /// files of its /proc, a sosreport, Unraid's diagnostics; several files together, `-` is standard input.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["root", "log", "capture"])]
    pub(crate) from: Vec<PathBuf>,
    /// Read this log instead of the machine's own, or the best one in an archive; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// A page for people, JSON, or metrics for node_exporter's textfile collector.
    #[arg(long, value_enum, default_value_t = DoctorFormat::Text)]
    format: DoctorFormat,
    /// Short for `--format json`.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Write to this file, which appears whole or not at all, instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Write what was looked at to a tar archive, to be attached to a report.
    #[arg(long, value_name = "FILE.tar")]
    pub(crate) capture: Option<PathBuf>,
    /// Leave command lines and the names of virtual machines and containers out of the capture.
    #[arg(long, requires = "capture")]
    pub(crate) redact: bool,
}

impl DoctorArgs {
    pub(crate) fn format(&self) -> DoctorFormat {
        match self.json {
            true => DoctorFormat::Json,
            false => self.format,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DoctorFormat {
    Text,
    Json,
    Prometheus,
}
