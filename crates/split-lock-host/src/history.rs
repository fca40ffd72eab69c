//! What the kernel's log says about the machine: how it decided when it started, and what came of it.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::observed::{Fact, Observed};
use crate::reported_facts::{BootLogReader, ReportedFacts};
use crate::{Facts, Root, root};
use split_lock_log::{Boot, Exception, KernelOops, LogStart, Message, Record, Records, Source};

/// Where logs are kept, if the kernel's own memory of them cannot be read.
const FILES: [&str; 4] = [
    "var/log/kern.log",
    "var/log/messages",
    "var/log/syslog",
    "var/log/dmesg",
];

const KERNEL: &str = "dev/kmsg";

/// What a log tells of the last boot that is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Events {
    /// Whether it begins where the kernel does: if so, what it does not say about the boot was not said.
    pub begins_at_boot: bool,
    /// The release that last started, if the log says so.
    pub release: Option<String>,
    /// What it said about detection when it last started.
    #[serde(skip)]
    pub boot: Vec<Boot>,
    /// Traps by #AC since then, as far as they were printed.
    pub alignment_checks: u64,
    /// Traps by #DB since then, as far as they were printed.
    pub debug_exceptions: u64,
    /// Messages that were not printed, by the kernel's own count.
    pub suppressed: u64,
    /// Attempts of the kernel to switch detection on or off that were refused, as far as they were printed.
    pub refused_writes: u64,
    /// Messages that are damaged.
    pub damaged: u64,
    /// Split locks of the kernel itself since then, the first ones.
    pub kernel_split_locks: Vec<KernelSplitLock>,
    /// Programs that got SIGBUS for a misaligned access since then: split locks in mode `fatal`.
    pub alignment_signals: u64,
    /// Lines of programs that have one of the messages in them.
    pub foreign_lines: u64,
    /// What the kernel said of its machine when it last started.
    #[serde(skip)]
    pub(crate) reported: ReportedFacts,
    /// Whether its lines are a log's.
    #[serde(skip)]
    pub(crate) is_log: bool,
}

/// A split lock of the kernel itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KernelSplitLock {
    /// The function, and how far into it: `skb_clone+0x159/0x1e0`.
    pub place: Option<String>,
    /// The module that it is in; `None` for the kernel's own code.
    pub module: Option<String>,
    /// The thread that died.
    pub comm: Option<String>,
}

/// A sentence without its full stop.
impl std::fmt::Display for KernelSplitLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = self
            .place
            .as_deref()
            .unwrap_or("a function that the log does not name");
        let module = match &self.module {
            Some(module) => format!("of the module {module}"),
            None => "of the kernel".to_owned(),
        };
        write!(f, "the kernel itself split a lock, in {place} {module}")?;
        match &self.comm {
            Some(comm) => write!(f, ", while it ran for {comm}"),
            None => Ok(()),
        }
    }
}

impl From<&KernelOops> for KernelSplitLock {
    fn from(oops: &KernelOops) -> Self {
        let comm = oops.comm.as_deref();
        KernelSplitLock {
            place: oops
                .rip
                .as_ref()
                .map(|rip| format!("{}+{:#x}/{:#x}", rip.function, rip.offset, rip.size)),
            module: oops.rip.as_ref().and_then(|rip| rip.module.clone()),
            comm: comm.map(|comm| String::from_utf8_lossy(comm).into_owned()),
        }
    }
}

/// More tell nothing that the first do not.
const MOST_KERNEL_SPLIT_LOCKS: usize = 8;

/// The kernel's log, if it could be read.
pub type History = Fact<Events>;

impl Events {
    fn add(&mut self, message: &Message) {
        match message {
            Message::Started { release } => {
                *self = Events {
                    begins_at_boot: true,
                    release: Some(String::from_utf8_lossy(release).into_owned()),
                    ..Events::default()
                };
            }
            Message::Boot(boot) => self.boot.push(*boot),
            Message::Trap(trap) => match trap.kind.exception() {
                Exception::AlignmentCheck => self.alignment_checks += 1,
                Exception::Debug => self.debug_exceptions += 1,
            },
            Message::Suppressed(suppressed) => {
                self.suppressed = self.suppressed.saturating_add(suppressed.count);
            }
            Message::RefusedWrite(_) => self.refused_writes += 1,
            Message::KernelSplitLock(oops) => {
                if self.kernel_split_locks.len() < MOST_KERNEL_SPLIT_LOCKS {
                    self.kernel_split_locks.push((&**oops).into());
                }
            }
            Message::AlignmentSignal(_) => self.alignment_signals += 1,
            Message::Damaged { .. } => self.damaged += 1,
        }
    }

    /// Why this cannot be the log of what runs now on the machine with these facts, if something says so.
    pub(crate) fn is_not_of(&self, facts: &Facts) -> Option<String> {
        if let (Some(logged), Some(running)) = (&self.release, facts.kernel_release.known())
            && logged != running
        {
            return Some(format!(
                "the log is of Linux {logged}, and this is {running}"
            ));
        }
        // The trap may be its host's, but of no host of AMD's.
        let may_be_hosts = facts.has_cpu_flag("hypervisor") == Some(true) && !facts.is_amd();
        if self.alignment_checks > 0
            && !may_be_hosts
            && facts.has_cpu_flag("split_lock_detect") == Some(false)
        {
            return Some("the log tells of split locks that the CPU reported (#AC), and this CPU cannot do that".into());
        }
        if self.debug_exceptions > 0 && facts.has_cpu_flag("bus_lock_detect") == Some(false) {
            return Some("the log tells of bus locks that the CPU reported (#DB), and this CPU cannot do that".into());
        }
        // Linux shows each flag wherever it uses it.
        let used = [
            ("split_lock_detect", self.uses_alignment_checks()),
            ("bus_lock_detect", self.uses_bus_locks()),
        ];
        let is_hidden =
            |&(flag, is_used): &(&str, bool)| is_used && facts.has_cpu_flag(flag) == Some(false);
        let (flag, _) = used.into_iter().find(is_hidden)?;
        Some(format!(
            "the log is of a kernel that uses {flag}, and this CPU does not show that flag"
        ))
    }

    /// Whether the kernel said when it started that split locks raise #AC, and did not take that back: before 5.13
    /// it tried that out only then.
    pub(crate) fn uses_alignment_checks(&self) -> bool {
        let said = self
            .boot
            .iter()
            .any(|line| matches!(line, Boot::SplitLocks(_) | Boot::SplitLocksBefore513(_)));
        said && !self.boot.contains(&Boot::MsrAccessFailed)
    }

    /// Whether the kernel said when it started that it looks for bus locks (#DB).
    pub(crate) fn uses_bus_locks(&self) -> bool {
        let says = |line: &Boot| matches!(line, Boot::BusLocks { .. } | Boot::BusLockRate { .. });
        self.boot.iter().any(says)
    }

    /// Whether it says enough of its machine to be judged without it.
    pub(crate) fn speaks_for_itself(&self) -> bool {
        self.traps() > 0 || !self.boot.is_empty() || !self.kernel_split_locks.is_empty()
    }

    pub(crate) fn messages(&self) -> u64 {
        let boot = self.boot.len() + self.kernel_split_locks.len();
        self.traps() + self.alignment_signals + self.refused_writes + self.damaged + boot as u64
    }

    /// Traps that were printed.
    #[must_use]
    pub fn traps(&self) -> u64 {
        self.alignment_checks + self.debug_exceptions
    }
}

impl History {
    /// Reads the log that a machine keeps: its kernel's, or the first of the usual files. Each record is shown to
    /// `look`, those of earlier boots included.
    pub fn of_machine(root: &Root, look: impl FnMut(&Record)) -> Self {
        let mut refused = None;
        for place in places(root) {
            let path = Path::new("/").join(place);
            match open(root, place) {
                Ok(log) => return Self::read(log, &path, look),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    root.note_refusal(place, &error);
                    refused.get_or_insert((path, error.to_string()));
                }
            }
        }
        match refused {
            Some((path, why)) => {
                let from = path.display().to_string();
                Observed::Unreadable { path, why }.from(from)
            }
            None => Observed::Absent.from(format!("/{}", places(root).join(", /"))),
        }
    }

    /// Reads a log. Each record is shown to `look`.
    ///
    /// # Errors
    /// If it cannot be read to its end.
    pub fn of_log(log: impl io::Read, mut look: impl FnMut(&Record)) -> io::Result<Events> {
        let mut events = Events::default();
        let mut log = BootLogReader::new(log);
        let mut records = Records::new(&mut log);
        for record in records.by_ref() {
            let record = record?;
            events.add(&record.message);
            look(&record);
        }
        events.begins_at_boot |= records.log_start() == LogStart::Boot;
        events.foreign_lines = records.counts().foreign_lines;
        events.is_log = records.log_start() != LogStart::Unclear;
        events.reported = log.facts;
        Ok(events)
    }

    fn read(log: impl io::Read, path: &Path, look: impl FnMut(&Record)) -> Self {
        let seen = match Self::of_log(log, look) {
            Ok(events) => Observed::Is(events),
            Err(error) => Observed::Unreadable {
                path: path.to_owned(),
                why: error.to_string(),
            },
        };
        seen.from(path.display().to_string())
    }
}

/// In the order in which they are tried.
fn places(root: &Root) -> Vec<&'static str> {
    // A captured machine's kernel is another one, and its log may have come along as a file.
    let first = if root.is_live() {
        KERNEL
    } else {
        root::KERNEL_LOG
    };
    let mut places = vec![first];
    places.extend(FILES);
    if !root.is_live() {
        // Only if that was refused when it was captured: then this is why there is no log.
        places.push(KERNEL);
    }
    places
}

/// Logs grow for years: what is before this tells nothing of the last boot, or of more than anybody can take in.
const MOST_BYTES: u64 = 64 << 20;

fn open(root: &Root, place: &str) -> io::Result<Box<dyn io::Read>> {
    if root.is_live() && place == KERNEL {
        return Ok(Box::new(Source::open_kmsg(
            &PathBuf::from("/").join(KERNEL),
        )?));
    }
    let mut log = BufReader::new(root.stream_end(place, MOST_BYTES)?);
    // It has been rotated away a moment ago, or nothing writes it any more.
    if log.fill_buf()?.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(Box::new(log))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    /// Kubernetes in a container has the console there, others a FIFO.
    #[test]
    fn what_only_stands_in_for_the_kernels_log_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kmsg");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
        let error = Source::open_kmsg(&path).unwrap_err();
        assert_eq!(error.to_string(), "it is not the kernel's log");
    }
}
