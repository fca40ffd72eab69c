//! A machine's files, wherever they are: below `/`, below any other folder, or in a capture.
//!
//! Whoever made that folder may have meant harm. So nothing outside of it is ever reached, nothing but
//! plain files is read (a FIFO would block, a device may do anything), and no more than
//! [`MOST_BYTES`] of each.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use crate::Observed;

mod archive;
mod folder;
mod record;

use archive::Archive;
use folder::Folder;
pub(crate) use record::{Entry, Record};

/// No file that a verdict needs is longer than this.
pub const MOST_BYTES: u64 = 8 << 20;

/// More names than this in one folder are left out.
pub const MOST_NAMES: usize = 1 << 17;

/// Below this are answers that a live machine gives to questions, and a captured one keeps as files.
pub(crate) const ANSWERS: &str = "splitlock";

/// What a captured machine's kernel said about split locks.
pub(crate) const KERNEL_LOG: &str = "splitlock/kernel.log";

/// What could not be seen when a machine was captured: a path, a tab and a reason to each line.
pub(crate) const REFUSED: &str = "refused";

/// A machine to look at.
///
/// It remembers what it was asked for, so that a capture holds just what a verdict has looked at.
///
/// ```
/// use split_lock_host::{Root, Observed};
///
/// let machine = Root::live()?;
/// assert!(matches!(machine.text("proc/sys/kernel/osrelease"), Observed::Is(_)));
/// assert_eq!(machine.text("no/such/file"), Observed::Absent);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Root {
    backing: Backing,
    /// What could not be seen when it was captured.
    refused: BTreeMap<PathBuf, String>,
    /// Where the files of a machine are from of which only reports were sent. What is not there may still exist.
    origins: Option<BTreeMap<PathBuf, String>>,
    asked: RefCell<Record>,
}

#[derive(Debug)]
enum Backing {
    Folder(Folder),
    Archive(Archive),
}

impl Root {
    /// This machine.
    ///
    /// # Errors
    /// If `/` cannot be opened.
    pub fn live() -> io::Result<Self> {
        Self::open(Path::new("/"))
    }

    /// The machine whose root directory this is, or of which this is a capture: a tar archive, which may be
    /// compressed.
    ///
    /// # Errors
    /// If it can be neither.
    pub fn open(path: &Path) -> io::Result<Self> {
        let backing = if std::fs::metadata(path)?.is_dir() {
            Backing::Folder(Folder::open(path)?)
        } else {
            Backing::Archive(Archive::open(path)?)
        };
        let mut root = Root {
            backing,
            refused: BTreeMap::new(),
            origins: None,
            asked: RefCell::default(),
        };
        if !root.is_live() {
            let list = root.text(Path::new(ANSWERS).join(REFUSED)).or_default();
            root.refused = refused(&list);
            root.asked = RefCell::default();
        }
        Ok(root)
    }

    /// A machine of which only these files were sent, each with where it is from.
    pub(crate) fn of_reports(files: BTreeMap<PathBuf, (Vec<u8>, String)>) -> Self {
        let mut archive = Archive::default();
        let mut origins = BTreeMap::new();
        for (path, (content, from)) in files {
            archive.add_file(path.clone(), content);
            origins.insert(path, from);
        }
        Root {
            backing: Backing::Archive(archive),
            refused: BTreeMap::new(),
            origins: Some(origins),
            asked: RefCell::default(),
        }
    }

    /// Whether only reports were sent of it, so that nothing is known to be absent.
    #[must_use]
    pub fn is_of_reports(&self) -> bool {
        self.origins.is_some()
    }

    /// Where what is said of a file is from: the file itself, or what was sent of it.
    pub(crate) fn origin(&self, path: &str) -> String {
        let sent = self.origins.as_ref();
        let sent = sent.and_then(|origins| origins.get(Path::new(path)));
        sent.cloned().unwrap_or_else(|| format!("/{path}"))
    }

    /// Whether it is the machine that this runs on, which can be asked more than files can tell.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(&self.backing, Backing::Folder(folder) if folder.is_live())
    }

    /// What a file holds.
    pub fn read(&self, path: impl AsRef<Path>) -> Observed<Vec<u8>> {
        let entry = |bytes: &Vec<u8>| Entry::File(bytes.clone());
        self.look(path.as_ref(), Folder::read, Archive::read, entry)
    }

    /// What a file holds, as a text. Bytes that are no UTF-8 are replaced.
    pub fn text(&self, path: impl AsRef<Path>) -> Observed<String> {
        let bytes = self.read(path);
        bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The names in a folder, sorted.
    pub fn list(&self, path: impl AsRef<Path>) -> Observed<Vec<OsString>> {
        let path = path.as_ref();
        self.look(path, Folder::list, Archive::list, |_| Entry::Folder)
    }

    /// Where a symbolic link points.
    pub fn link(&self, path: impl AsRef<Path>) -> Observed<PathBuf> {
        let entry = |target: &PathBuf| Entry::Link(target.clone());
        self.look(path.as_ref(), Folder::link, Archive::link, entry)
    }

    /// Whether something is there, whatever it is.
    pub fn has(&self, path: impl AsRef<Path>) -> Observed<()> {
        let path = path.as_ref();
        self.look(path, Folder::has, Archive::has, |()| Entry::There)
    }

    /// Opens the last bytes of a plain file of any length, to be read once; if they are not all, from the beginning
    /// of a line on. It is not remembered.
    ///
    /// # Errors
    /// If it is not there, cannot be read or is no plain file.
    pub fn stream_end(
        &self,
        path: impl AsRef<Path>,
        most_bytes: u64,
    ) -> io::Result<Box<dyn Read + Send>> {
        let path = path.as_ref();
        self.may_see(path)?;
        Ok(match &self.backing {
            Backing::Folder(folder) => Box::new(end(folder.open_file(path)?, most_bytes)?),
            Backing::Archive(archive) => {
                Box::new(end(io::Cursor::new(archive.read(path)?), most_bytes)?)
            }
        })
    }

    /// What the machine answers to a question that no file answers: asked if it is live, and as the capture
    /// has it otherwise.
    pub(crate) fn ask(
        &self,
        name: &str,
        question: impl FnOnce() -> Observed<String>,
    ) -> Observed<String> {
        let path = Path::new(ANSWERS).join(name);
        if !self.is_live() {
            return self.text(path).map(|text| text.trim().to_owned());
        }
        let answer = question();
        let entry = match &answer {
            Observed::Is(text) => Entry::File(text.clone().into_bytes()),
            Observed::Absent => return answer,
            Observed::Unreadable { why, .. } => Entry::Refused(why.clone()),
        };
        self.asked.borrow_mut().insert(path, entry);
        answer
    }

    /// Remembers that something could not be seen that was looked for in another way.
    pub(crate) fn note_refusal(&self, path: &str, error: &io::Error) {
        let entry = Entry::Refused(error.to_string());
        self.asked.borrow_mut().insert(path.into(), entry);
    }

    /// Looks at many things to find an answer to a question, of which only that is remembered.
    pub(crate) fn aside<T>(&self, look: impl FnOnce(&Self) -> T) -> T {
        let before = self.asked.take();
        let found = look(self);
        self.asked.replace(before);
        found
    }

    pub(crate) fn into_record(self) -> Record {
        self.asked.into_inner()
    }

    fn may_see(&self, path: &Path) -> io::Result<()> {
        let why = self.refused.get(&plain(path));
        why.map_or(Ok(()), |why| Err(io::Error::other(why.clone())))
    }

    /// Asks the folder or the archive, and remembers the answer.
    fn look<T>(
        &self,
        path: &Path,
        in_folder: fn(&Folder, &Path) -> io::Result<T>,
        in_archive: fn(&Archive, &Path) -> io::Result<T>,
        entry: impl FnOnce(&T) -> Entry,
    ) -> Observed<T> {
        let found = self.may_see(path).and_then(|()| match &self.backing {
            Backing::Folder(folder) => in_folder(folder, path),
            Backing::Archive(archive) => in_archive(archive, path),
        });
        let (entry, answer) = match found {
            Ok(value) => (entry(&value), Observed::Is(value)),
            Err(error) if is_absence(&error) && self.is_of_reports() => {
                let (path, why) = (Path::new("/").join(path), "nobody has sent it".to_owned());
                return Observed::Unreadable { path, why };
            }
            Err(error) if is_absence(&error) => return Observed::Absent,
            Err(error) => {
                let (path, why) = (Path::new("/").join(path), error.to_string());
                let entry = Entry::Refused(why.clone());
                (entry, Observed::Unreadable { path, why })
            }
        };
        self.asked.borrow_mut().insert(path.to_owned(), entry);
        answer
    }
}

/// Not there, or not any more: a process that ends takes its files along.
fn is_absence(error: &io::Error) -> bool {
    const NO_SUCH_PROCESS: i32 = 3;
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    ) || error.raw_os_error() == Some(NO_SUCH_PROCESS)
}

fn refused(list: &str) -> BTreeMap<PathBuf, String> {
    let entries = list.lines().filter_map(|line| line.split_once('\t'));
    entries
        .map(|(path, why)| (plain(Path::new(path)), why.to_owned()))
        .collect()
}

/// All of it, or an error if that is too much.
pub(crate) fn bounded(input: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = vec![];
    input.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        let most = MOST_BYTES >> 20;
        return Err(io::Error::other(format!("it is longer than {most} MiB")));
    }
    Ok(bytes)
}

/// It may grow while it is read, which then is nobody's concern.
fn end<F: Read + Seek>(mut file: F, most_bytes: u64) -> io::Result<impl Read + use<F>> {
    let bytes = file.seek(SeekFrom::End(0))?;
    let left_out = bytes.saturating_sub(most_bytes);
    file.seek(SeekFrom::Start(left_out))?;
    let mut end = BufReader::new(file.take(most_bytes));
    if left_out > 0 {
        end.skip_until(b'\n')?;
    }
    Ok(end)
}

/// Relative to the root, and no higher than it.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    plain
}
