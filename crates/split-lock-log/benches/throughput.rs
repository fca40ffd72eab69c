//! How fast logs are read. `cargo bench -p split-lock-log`
//!
//! Prints medians, and ratios to `grep -c` in the same run with the order interleaved; asserts nothing,
//! because times depend on the machine. The logs are made anew each time, 1 GiB each unless
//! `SPLITLOCK_BENCH_MIB` says otherwise, and removed.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use split_lock_log::{Records, Source};
use tempfile::NamedTempFile;

const ROUNDS: usize = 5;
const USUAL_MIB: u64 = 1024;

/// What kernels write about all day.
const USUAL_LINES: [&str; 6] = [
    "usb 1-1: new high-speed USB device number 7 using xhci_hcd",
    "audit: type=1400 audit(1700000000.123:45): apparmor=\"ALLOWED\" operation=\"open\" profile=\"snap\" name=\"/proc/1/cmdline\"",
    "EXT4-fs (nvme0n1p2): mounted filesystem with ordered data mode. Quota mode: none.",
    "wlp0s20f3: authenticate with 00:11:22:33:44:55 (local address=66:77:88:99:aa:bb)",
    "BTRFS info (device dm-0): using free-space-tree, please split large requests",
    "perf: interrupt took too long (2512 > 2500), lowering kernel.perf_event_max_sample_rate to 79500",
];

/// How a log is written.
#[derive(Debug, Clone, Copy)]
enum Form {
    Syslog,
    /// `journalctl -o export`
    Export,
}

impl Form {
    fn entry(self, number: u64, text: &str) -> String {
        let (seconds, micros) = (number / 100, number * 7919 % 1_000_000);
        match self {
            Form::Syslog => {
                format!("Nov 22 14:53:09 host kernel: [{seconds:5}.{micros:06}] {text}\n")
            }
            Form::Export => format!(
                "__CURSOR=s=739ad463348b4ceca5a9e69c95a3c93f;i={number:x}\n\
                 __REALTIME_TIMESTAMP={}\n_TRANSPORT=kernel\nPRIORITY=4\nSYSLOG_IDENTIFIER=kernel\n\
                 _HOSTNAME=host\n_SOURCE_MONOTONIC_TIMESTAMP={seconds}{micros:06}\nMESSAGE={text}\n\n",
                1_763_823_189_123_456 + number
            ),
        }
    }
}

/// A log in which one message in `every` tells of a split lock, and none if that is zero.
fn make(form: Form, every: u64, bytes: u64) -> io::Result<NamedTempFile> {
    let file = NamedTempFile::new()?;
    let mut out = io::BufWriter::with_capacity(1 << 20, &file);
    let (mut written, mut number) = (0, 0u64);
    while written < bytes {
        number += 1;
        let text = if every > 0 && number.is_multiple_of(every) {
            let address = 0x7f00_0000_0000 + number;
            format!(
                "x86/split lock detection: #AC: CPU {}/KVM/{} took a split_lock trap at address: {address:#x}",
                number % 8,
                number % 4_000_000,
            )
        } else {
            USUAL_LINES[(number % 6) as usize].to_owned()
        };
        let entry = form.entry(number, &text);
        out.write_all(entry.as_bytes())?;
        written += entry.len() as u64;
    }
    out.flush()?;
    drop(out);
    Ok(file)
}

fn parse(path: &Path) -> io::Result<u64> {
    let mut records = Records::new(Source::open(path)?);
    for record in records.by_ref() {
        record?;
    }
    Ok(records.counts().traps)
}

/// Without the locale's characters, which would slow it down, and with a reader: without one it stops at
/// the first match.
fn grep(path: &Path) -> io::Result<()> {
    let mut command = Command::new("grep");
    command.args(["-c", "split lock detection"]).arg(path);
    command.env("LC_ALL", "C").stdin(Stdio::null());
    command.output().map(drop)
}

fn timed<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<(Duration, T)> {
    let start = Instant::now();
    let result = work()?;
    Ok((start.elapsed(), result))
}

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort_unstable();
    samples[samples.len() / 2]
}

/// The kernel's count of the most memory this process ever had, in KiB.
fn peak_memory_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn compare(title: &str, form: Form, every: u64, mib: u64) -> io::Result<()> {
    let log = make(form, every, mib << 20)?;
    // Into the page cache: this is not about disks.
    io::copy(&mut File::open(log.path())?, &mut io::sink())?;
    let (mut ours, mut greps) = (vec![], vec![]);
    let mut traps = 0;
    for _ in 0..ROUNDS {
        let (time, found) = timed(|| parse(log.path()))?;
        ours.push(time);
        traps = found;
        greps.push(timed(|| grep(log.path()))?.0);
    }
    let (ours, grep) = (median(ours), median(greps));
    let bytes = log.as_file().metadata()?.len() as f64;
    let rate = |time: Duration| bytes / time.as_secs_f64() / 1e6;
    println!(
        "{title}: {:.0} MB/s, {traps} traps; grep -c {:.0} MB/s; {:.2} of grep's time",
        rate(ours),
        rate(grep),
        ours.as_secs_f64() / grep.as_secs_f64(),
    );
    Ok(())
}

fn main() -> io::Result<()> {
    let mib = std::env::var("SPLITLOCK_BENCH_MIB");
    let mib = mib
        .ok()
        .and_then(|mib| mib.parse().ok())
        .unwrap_or(USUAL_MIB);
    compare("no line matches", Form::Syslog, 0, mib)?;
    compare("1 % of the lines match", Form::Syslog, 100, mib)?;
    compare("every line matches", Form::Syslog, 1, mib.div_ceil(8))?;
    let title = "journalctl -o export, 1 % of the entries match";
    compare(title, Form::Export, 100, mib.div_ceil(4))?;
    let memory = peak_memory_kib().map_or("unknown".into(), |kib| format!("{kib} KiB"));
    println!("peak memory of this process: {memory}");
    Ok(())
}
