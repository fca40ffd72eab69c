//! A machine in a file: just what a verdict has looked at, to be attached to a report.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Component, Path};

use tar::{Builder, EntryType, Header};

use crate::root::{ANSWERS, Entry, KERNEL_LOG, REFUSED, Record};
use crate::{History, Root};

mod log_copy;
mod redact;

pub use log_copy::LogCopy;

/// The environment of the first process is looked at for one variable, and may hold anybody's secrets.
const FIRST_ENVIRONMENT: &str = "proc/1/environ";

/// All that a machine was asked for, ready to be written.
///
/// ```
/// use split_lock_host::{Capture, Facts, History, LogCopy, Root};
///
/// let machine = Root::live()?;
/// let facts = Facts::read(&machine);
/// let mut log = LogCopy::default();
/// let history = History::of_machine(&machine, |record| log.add(record));
///
/// let mut capture = Capture::of(machine, &history, &log, &[]);
/// capture.redact();
/// let mut tar = vec![];
/// capture.write_to(&mut tar)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Capture {
    record: Record,
    log: Option<Vec<u8>>,
}

impl Capture {
    /// Of everything that a machine was asked for, and of its log; but of its processes only these, or whichever
    /// process these threads belong to.
    #[must_use]
    pub fn of(root: Root, history: &History, log: &LogCopy, processes: &[u32]) -> Self {
        let processes: BTreeSet<_> = processes.iter().copied().collect();
        let mut record = root.into_record();
        record
            .entries
            .retain(|path, _| process(path).is_none_or(|id| processes.contains(&id)));
        redact::first_environment(&mut record);
        Capture {
            record,
            log: history.known().map(|events| log.text(events)),
        }
    }

    /// Takes out what tells whose machine it is: command lines, of the kernel (but for what concerns split locks)
    /// and of processes (but for those options by which a virtual machine is known), and the names of virtual machines and containers.
    pub fn redact(&mut self) {
        redact::redact(&mut self.record);
    }

    /// Writes it as a tar archive, from which [`Root::open`] reads it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_to(&self, to: impl Write) -> io::Result<()> {
        let mut archive = Builder::new(to);
        let mut refused = String::new();
        for (path, entry) in &self.record.entries {
            match entry {
                Entry::File(bytes) => file(&mut archive, path, bytes)?,
                Entry::There if !self.record.is_folder(path) => file(&mut archive, path, b"")?,
                // What it is was not asked, but with something in it, it is a folder.
                Entry::There | Entry::Folder => {
                    let mut header = header(EntryType::Directory, 0);
                    archive.append_data(&mut header, path, io::empty())?;
                }
                Entry::Link(target) => {
                    let mut header = header(EntryType::Symlink, 0);
                    archive.append_link(&mut header, path, target)?;
                }
                Entry::Refused(why) => refused += &refusal(path, why),
            }
        }
        if let Some(log) = &self.log {
            file(&mut archive, Path::new(KERNEL_LOG), log)?;
        }
        let list = Path::new(ANSWERS).join(REFUSED);
        file(&mut archive, &list, refused.as_bytes())?;
        archive.into_inner()?.flush()
    }
}

/// The process or thread whose files these are.
fn process(path: &Path) -> Option<u32> {
    let mut parts = path.components();
    let is_proc = parts.next()? == Component::Normal(OsStr::new("proc"));
    let name = parts.next()?.as_os_str().to_str()?;
    let id = is_proc.then(|| name.parse().ok())?;
    // The first process is asked about its surroundings, and whether any process of others is shown.
    id.filter(|_| path != Path::new(FIRST_ENVIRONMENT) && path != Path::new("proc/1"))
}

fn refusal(path: &Path, why: &str) -> String {
    let path = path.display().to_string();
    let is_plain = |text: &str| !text.contains(['\t', '\n']);
    match is_plain(&path) && is_plain(why) {
        true => format!("{path}\t{why}\n"),
        false => String::new(),
    }
}

fn header(kind: EntryType, bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(bytes);
    header.set_mode(match kind {
        EntryType::Directory => 0o755,
        _ => 0o644,
    });
    // When it was made, and by whom, is nobody's business.
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn file(archive: &mut Builder<impl Write>, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut header = header(EntryType::Regular, bytes.len() as u64);
    archive.append_data(&mut header, path, bytes)
}
