//! One machine: a folder with all its files, and Bochs running in it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use split_lock_lab::bundle::{self, Bundles};
use split_lock_lab::cpu::journal::Journal;
use split_lock_lab::cpu::options::CpuOptions;
use split_lock_lab::cpu::script::LAST_BUNDLE;

use crate::host::cpu::source::Source;
use crate::host::machine::image::IMAGE;
use crate::host::output;

/// How long a machine may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) guest: Duration,
    pub(crate) wall: Duration,
}

impl Limits {
    pub(crate) const fn in_seconds(guest: u64, wall: u64) -> Self {
        Self {
            guest: Duration::from_secs(guest),
            wall: Duration::from_secs(wall),
        }
    }
}

/// Where the first serial line leads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Console<'a> {
    /// To a file.
    Log,
    /// To a terminal.
    Terminal(&'a Path),
}

/// A machine that has not run yet, or has.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    program: PathBuf,
    folder: PathBuf,
    options: CpuOptions,
    topology: String,
}

/// What a machine has done and said.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) bundles: Bundles,
    pub(crate) journal: Journal,
    /// As it is written.
    pub(crate) journal_text: String,
}

// Bochs runs in the machine's folder, so that none of these is a path that its settings could misread.
const SETTINGS: &str = "bochsrc";
const SERIAL_LOG: &str = "serial.log";
const BOCHS_LOG: &str = "bochs.log";
const JOURNAL: &str = "journal.jsonl";
const RESULTS: &str = "results";
const BIOS: &str = "bios";
const VGA_BIOS: &str = "vga-bios";

/// Instructions of one CPU in a second of the machine, and ticks of its TSC. About as many as Bochs does in two.
const TICKS_PER_SECOND: u32 = 200_000_000;

/// What the CPU's exit code says: `lab/cpu/options.h`.
const EXIT_UNUSABLE: i32 = 2;
const EXIT_GUEST_TIME: i32 = 3;

impl Machine {
    pub(crate) fn new(
        program: &Path,
        source: &Source,
        folder: &Path,
        options: &CpuOptions,
    ) -> Result<Self> {
        for (target, name) in [(source.bios(), BIOS), (source.vga_bios(), VGA_BIOS)] {
            symlink(target, folder.join(name)).context("cannot give the machine its BIOS")?;
        }
        Ok(Self {
            program: program.to_owned(),
            folder: folder.to_owned(),
            topology: options.topology()?,
            options: *options,
        })
    }

    pub(crate) fn serial_log(&self) -> PathBuf {
        self.folder.join(SERIAL_LOG)
    }

    /// Until it has switched itself off.
    pub(crate) fn run(&self, console: Console<'_>, limits: Limits) -> Result<()> {
        let child = self.start(console, limits)?;
        self.wait(child, limits.wall)
            .with_context(|| format!("see {}", self.serial_log().display()))
    }

    pub(crate) fn start(&self, console: Console<'_>, limits: Limits) -> Result<Child> {
        let settings = settings(self.options.model(), &self.topology, console);
        output::write(&self.folder.join(SETTINGS), settings.as_bytes())?;
        let options = format!(
            "{};limit-ms={};journal={JOURNAL};results={RESULTS}",
            self.options,
            limits.guest.as_millis()
        );
        // It ends with the lab, however that ends. setpriv is essential in Debian.
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.program)
            .args(["-q", "-f", SETTINGS])
            .current_dir(&self.folder)
            .env("SPLITLOCK_CPU", options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run Bochs")
    }

    fn wait(&self, mut child: Child, limit: Duration) -> Result<()> {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if begin.elapsed() >= limit {
                stop(&mut child)?;
                bail!("the machine was not done after {} s", limit.as_secs());
            }
            thread::sleep(Duration::from_millis(20));
        };
        let said = child.wait_with_output()?.stderr;
        self.judge(status, &String::from_utf8_lossy(&said))
    }

    /// Bochs ends with the same code for a machine that was switched off as for many faults; its log tells them apart.
    fn judge(&self, status: ExitStatus, said: &str) -> Result<()> {
        if let Some(EXIT_UNUSABLE | EXIT_GUEST_TIME) = status.code() {
            bail!("{}", said.trim());
        }
        let log = self.folder.join(BOCHS_LOG);
        let text = fs::read(&log).unwrap_or_default();
        if String::from_utf8_lossy(&text).contains("soft power off") {
            return Ok(());
        }
        bail!("Bochs failed ({status}): see {}", log.display())
    }

    /// Reads what the machine has sent and what its CPU has written.
    pub(crate) fn outcome(&self) -> Result<Outcome> {
        let read = |name: &str| {
            let path = self.folder.join(name);
            fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let bundles = bundle::unpack(&read(RESULTS)?);
        if !bundles.contains_key(LAST_BUNDLE) {
            bail!("the machine did not come to the end of its script");
        }
        let journal_text = String::from_utf8(read(JOURNAL)?)?;
        let journal = Journal::parse(&journal_text)
            .with_context(|| format!("in {}", self.folder.join(JOURNAL).display()))?;
        // The largest of its files, and the only one that is of no use any more.
        fs::remove_file(self.folder.join(IMAGE))?;
        Ok(Outcome {
            bundles,
            journal,
            journal_text,
        })
    }
}

/// The CPU ends its journal when it is asked to; if it does not listen, it is not asked again.
pub(crate) fn stop(child: &mut Child) -> Result<()> {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM)?;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(5) {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// With a person at the console, time must not run ahead while the machine idles; otherwise the faster the better.
fn settings(model: &str, topology: &str, console: Console<'_>) -> String {
    let (line, sync) = match console {
        Console::Log => (format!("mode=file, dev={SERIAL_LOG}"), "none"),
        Console::Terminal(path) => (format!("mode=term, dev={}", path.display()), "slowdown"),
    };
    format!(
        "cpu: model={model}, count={topology}, ips={TICKS_PER_SECOND}, reset_on_triple_fault=0, ignore_bad_msrs=0\n\
         clock: sync={sync}, time0=1700000000\n\
         megs: 1024\n\
         romimage: file={BIOS}, options=fastboot\n\
         vgaromimage: file={VGA_BIOS}\n\
         ata0-master: type=cdrom, path={IMAGE}, status=inserted\n\
         boot: cdrom\n\
         com1: enabled=1, {line}\n\
         display_library: nogui\n\
         log: {BOCHS_LOG}\n\
         panic: action=fatal\n\
         error: action=report\n\
         info: action=ignore\n\
         debug: action=ignore\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_name_the_cpu_and_the_console() {
        let text = settings("ryzen", "1:2:2", Console::Log);
        assert!(text.starts_with("cpu: model=ryzen, count=1:2:2, ips=200000000,"));
        assert!(text.contains("com1: enabled=1, mode=file, dev=serial.log\n"));
        assert!(text.contains("sync=none"));
        let text = settings("ryzen", "1:2:2", Console::Terminal(Path::new("/dev/pts/3")));
        assert!(text.contains("com1: enabled=1, mode=term, dev=/dev/pts/3\n"));
    }
}
