//! A machine as far as what was sent of it tells: what tools have printed, logs, files of its `/proc`, and archives of all
//! that. What nobody said is not known.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use split_lock_log::{LeftOut, Source, for_each_log};

use crate::reported_facts::ReportedFacts;
use crate::{History, LogCollector, Root};

mod logs;
#[cfg(test)]
mod tests;
mod texts;

use logs::{Log, Logs};

/// So much of a text is looked at for what it tells of a machine; a log goes on for longer.
const MOST_TEXT_BYTES: u64 = 1 << 20;

/// Files that are as good as the machine's own, wherever an archive has them.
const FILES: [&str; 7] = [
    "proc/cpuinfo",
    "proc/cmdline",
    "proc/sys/kernel/osrelease",
    "proc/sys/kernel/split_lock_mitigate",
    "etc/os-release",
    "usr/lib/os-release",
    "sys/class/dmi/id/sys_vendor",
];

/// What was sent of a machine, read file by file.
///
/// ```no_run
/// use split_lock_host::{Diagnosis, Reports};
/// use std::path::Path;
///
/// let mut reports = Reports::default();
/// reports.add(Path::new("lscpu.txt"))?;
/// reports.add(Path::new("dmesg.txt"))?;
/// println!("{}", Diagnosis::of_reports(reports).1.verdict.title());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Reports {
    /// By path below the root, with where they are from.
    pub(crate) files: BTreeMap<PathBuf, (Vec<u8>, String)>,
    pub(crate) facts: Vec<(String, ReportedFacts)>,
    logs: Logs,
    /// Files in archives that could not be read.
    left_out: LeftOut,
    /// A text that was given by name is one, whatever it says.
    is_for_log: bool,
}

impl Reports {
    /// For files that are said to be logs, or archives with a log in them.
    #[must_use]
    pub fn for_log() -> Self {
        Reports {
            is_for_log: true,
            ..Self::default()
        }
    }

    /// Reads a file: a text, or an archive of texts.
    ///
    /// # Errors
    /// If it cannot be read, or nothing in it tells of a machine.
    pub fn add(&mut self, path: &Path) -> io::Result<()> {
        let name = path.display().to_string();
        self.add_all(&name, |visit| for_each_log(path, visit))
    }

    /// The same for what is read from anything.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_input(&mut self, name: &str, input: impl Read + Send + 'static) -> io::Result<()> {
        self.add_all(name, |visit| Source::for_each(input, visit))
    }

    fn add_all(
        &mut self,
        name: &str,
        for_each: impl FnOnce(&mut split_lock_log::Visit<'_>) -> io::Result<LeftOut>,
    ) -> io::Result<()> {
        let before = self.size();
        let mut is_empty = true;
        let left_out = for_each(&mut |member, text| {
            let name = match member {
                Some(member) => format!("{name}:{member}"),
                None => name.to_owned(),
            };
            if member.is_some_and(|member| member.starts_with("splitlock/")) {
                return Err(io::Error::other(
                    "it is a capture of `splitlock doctor`: give it to --root",
                ));
            }
            is_empty &= self.add_text(&name, member, text)?;
            Ok(ControlFlow::Continue(()))
        })?;
        if is_empty {
            return Err(io::Error::other(
                "it is empty: did the command that should have printed it fail?",
            ));
        }
        self.left_out.members += left_out.members;
        if let Some(first) = left_out.first {
            self.left_out.first.get_or_insert(format!("{name}:{first}"));
        }
        if self.size() > before {
            return Ok(());
        }
        let nothing = match self.is_for_log {
            true => "there is no kernel's log in it",
            false => {
                "nothing in it is known here to tell of a machine (a kernel's log, /proc/cpuinfo, /proc/cmdline, lscpu, uname -a, \
                 sysctl, inxi -Fa, or an archive of these)"
            }
        };
        let first = self.left_out.first.as_ref();
        let first = first.and_then(|first| first.strip_prefix(name)?.strip_prefix(':'));
        Err(io::Error::other(match first {
            Some(first) => format!("{nothing}; left out was {first}"),
            None => nothing.to_owned(),
        }))
    }

    fn size(&self) -> usize {
        self.files.len() + self.facts.len() + self.logs.count()
    }

    /// Takes what a text tells; says whether it is empty. A damaged file in an archive is left out.
    fn add_text(
        &mut self,
        name: &str,
        member: Option<&str>,
        text: &mut dyn Read,
    ) -> io::Result<bool> {
        match self.add_readable(name, member, text) {
            Err(error) if member.is_some() => {
                self.left_out.add(name, &error);
                Ok(false)
            }
            added => added,
        }
    }

    fn add_readable(
        &mut self,
        name: &str,
        member: Option<&str>,
        text: &mut dyn Read,
    ) -> io::Result<bool> {
        let mut head = vec![];
        text.take(MOST_TEXT_BYTES).read_to_end(&mut head)?;
        let words = String::from_utf8_lossy(&head);
        if let Some(path) = own_file(name, member, &words).filter(|_| !self.is_for_log) {
            let file = (head, name.to_owned());
            self.files.entry(path.into()).or_insert(file);
            return Ok(false);
        }
        for (what, facts) in texts::facts_in(&words, member) {
            self.facts.push((format!("{name} ({what})"), facts));
        }
        let is_empty = head.is_empty();
        let mut collector = LogCollector::default();
        let log = Cursor::new(head).chain(text);
        let events = History::of_log(log, |record| collector.add(record))?;
        // Programs' settings and sources mention split locks as well.
        let is_log = match member {
            Some(_) => events.is_log && (events.begins_at_boot || events.messages() > 0),
            None => self.is_for_log || events.is_log || events.messages() > 0,
        };
        if is_log {
            self.logs.add(Log {
                name: name.to_owned(),
                events,
                collector,
            });
        }
        Ok(is_empty)
    }

    /// The log that tells most of the last boot, what others tell besides, and what is left.
    pub(crate) fn take_log(&mut self) -> (History, LogCollector, Option<String>) {
        std::mem::take(&mut self.logs).into_best()
    }

    /// The log alone, if there is one.
    #[must_use]
    pub fn into_log(mut self) -> Option<(History, LogCollector)> {
        let (history, collector, _) = self.take_log();
        history.known().is_some().then_some((history, collector))
    }

    /// What archives have that could not be read, if anything: a sentence without its full stop.
    pub(crate) fn left_out(&self) -> Option<String> {
        let first = self.left_out.first.as_ref()?;
        let name = first.split(": ").next().unwrap_or(first);
        Some(match self.left_out.members {
            1 => format!("1 file in an archive is no text, or could not be read: {name}"),
            members => format!(
                "{members} files in archives are no text, or could not be read: {name} is the first"
            ),
        })
    }

    /// A root that has the machine's files, and in which nothing is known to be absent.
    pub(crate) fn root(&mut self) -> Root {
        Root::of_reports(std::mem::take(&mut self.files))
    }
}

/// Which of the machine's own files it is, by its name in an archive, or by what it says.
fn own_file(name: &str, member: Option<&str>, text: &str) -> Option<&'static str> {
    let is_named =
        |path: &&&str| name.ends_with(&format!("/{path}")) || name.ends_with(&format!(":{path}"));
    if let Some(path) = FILES.iter().find(is_named) {
        return Some(path);
    }
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next()?;
    if first.starts_with("processor\t:") || first.starts_with("processor       :") {
        return Some("proc/cpuinfo");
    }
    // In an archive each process may have a `cmdline`.
    let is_command_line = name.ends_with("cmdline.txt")
        || member.is_none()
            && (["BOOT_IMAGE=", "root="]
                .iter()
                .any(|word| first.starts_with(word))
                || name.ends_with("cmdline"));
    (lines.next().is_none() && is_command_line).then_some("proc/cmdline")
}
