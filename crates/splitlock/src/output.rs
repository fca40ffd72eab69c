//! Files that appear whole or not at all.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::{NamedTempFile, TempDir};

use crate::terminal::CANNOT_WRITE;

/// What a new file may be, before the user's umask.
const MODE: u32 = 0o666;

/// A place for a result, checked before anything is measured.
#[derive(Debug)]
pub(crate) enum Output {
    /// `-`
    Standard,
    /// Something that is there and is no ordinary file, such as a pipe: it cannot be replaced.
    Existing(PathBuf),
    /// An ordinary file, and beside it what will become it.
    File { path: PathBuf, draft: NamedTempFile },
}

impl Output {
    /// # Errors
    /// If nothing can be written there.
    pub(crate) fn prepare(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Output::Standard);
        }
        let path = resolve(path);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                bail!("cannot write to {}: it is a folder", path.display())
            }
            Ok(metadata) if !metadata.is_file() => Ok(Output::Existing(path)),
            _ => {
                let draft = draft_beside(&path)
                    .with_context(|| format!("cannot write to {}", path.display()))?;
                Ok(Output::File { path, draft })
            }
        }
    }

    /// Writes all of it. An ordinary file that was there before is replaced only when its
    /// successor is complete and safely on disk.
    ///
    /// # Errors
    /// If that is not possible, such as for want of space.
    pub(crate) fn write(
        self,
        content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<()> {
        match self {
            Output::Standard => {
                tolerate_closed_pipe(buffered(io::stdout().lock(), content)).context(CANNOT_WRITE)
            }
            Output::Existing(path) => OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|file| tolerate_closed_pipe(buffered(file, content)))
                .with_context(|| format!("cannot write to {}", path.display())),
            Output::File { path, mut draft } => buffered(&mut draft, content)
                .and_then(|()| draft.as_file().sync_all())
                .and_then(|()| Ok(draft.persist(&path)?))
                .map(drop)
                .with_context(|| format!("cannot write to {}", path.display())),
        }
    }
}

fn buffered(
    to: impl Write,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut writer = BufWriter::new(to);
    content(&mut writer)?;
    writer.flush()
}

/// Whoever reads a pipe may stop when it has seen enough.
pub(crate) fn tolerate_closed_pipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// A link is not replaced: what it points to is.
fn resolve(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.into())
}

fn draft_beside(path: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix(".splitlock-")
        .permissions(fs::Permissions::from_mode(MODE))
        .tempfile_in(folder_of(path))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A folder of results that appears whole.
#[derive(Debug)]
pub(crate) struct OutputFolder {
    path: PathBuf,
    draft: TempDir,
    /// The names that may be in a folder that this one replaces.
    names: &'static [&'static str],
}

impl OutputFolder {
    /// A folder at `path` that will hold files of these `names`. One that is there already is
    /// replaced if it holds nothing else.
    ///
    /// # Errors
    /// If it holds something else, or nothing can be written there.
    pub(crate) fn prepare(path: &Path, names: &'static [&'static str]) -> Result<Self> {
        let path = resolve(path);
        refuse_to_lose(&path, names)?;
        let draft = tempfile::Builder::new()
            .prefix(".splitlock-")
            .permissions(fs::Permissions::from_mode(0o777))
            .tempdir_in(folder_of(&path))
            .with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(OutputFolder { path, draft, names })
    }

    /// Writes one of its files.
    ///
    /// # Errors
    /// If that is not possible. The folder does not appear then.
    pub(crate) fn write(
        &self,
        name: &str,
        content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<()> {
        debug_assert!(self.names.contains(&name), "{name} is not announced");
        Output::prepare(&self.draft.path().join(name))?
            .write(content)
            // The folder that the user knows, not the draft.
            .map_err(|error| error.context(format!("cannot write {name}")))
    }

    /// Lets the folder appear.
    ///
    /// # Errors
    /// If something else has been put there meanwhile, or it cannot be put there.
    pub(crate) fn finish(self) -> Result<PathBuf> {
        refuse_to_lose(&self.path, self.names)?;
        put_in_place(self.draft.path(), &self.path)
            .with_context(|| format!("cannot put the report at {}", self.path.display()))?;
        // What is in the draft's place now, if anything, is the report of before.
        Ok(self.path)
    }
}

/// Whatever is at `path` may be replaced if it is ours alone.
fn refuse_to_lose(path: &Path, names: &[&str]) -> Result<()> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error)
                .with_context(|| format!("cannot use {} as a folder", path.display()));
        }
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot look into {}", path.display()))?;
        let name = entry.file_name();
        if !names.iter().any(|ours| OsStr::new(ours) == name) {
            bail!(
                "{} holds {}, which is not part of a report: choose another folder with --out, or \
                 move it away",
                path.display(),
                Path::new(&name).display()
            );
        }
    }
    Ok(())
}

/// At no moment is there half a folder at `to`, and what was there before is at `from` then.
fn put_in_place(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    if !to.exists() {
        return fs::rename(from, to);
    }
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    fn put(path: &Path, content: &'static str) -> Result<()> {
        Output::prepare(path)?.write(|out| out.write_all(content.as_bytes()))
    }

    fn names_in(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        put(&path, "first").unwrap();
        put(&path, "second").unwrap();
        assert_eq!(text(&path), "second");
        assert_eq!(names_in(folder.path()), ["a.csv"]);
    }

    #[test]
    fn what_was_there_survives_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        put(&path, "first").unwrap();
        let failing = |out: &mut dyn Write| {
            out.write_all(b"half")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        };
        let error = Output::prepare(&path).unwrap().write(failing).unwrap_err();
        assert!(format!("{error:#}").contains("a.csv"), "{error:#}");
        assert_eq!(text(&path), "first");
        assert_eq!(names_in(folder.path()), ["a.csv"]);
    }

    #[test]
    fn a_link_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        put(&target, "first").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        put(&link, "second").unwrap();
        assert_eq!(text(&target), "second");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_device_is_written_to_and_not_replaced() {
        put(Path::new("/dev/null"), "nothing").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        let error = put(Path::new("/dev/full"), "too much").unwrap_err();
        assert!(format!("{error:#}").contains("No space left"), "{error:#}");
    }

    #[test]
    fn places_where_nothing_can_be_written_are_known_at_once() {
        let folder = tempfile::tempdir().unwrap();
        for path in [
            folder.path().to_owned(),
            folder.path().join("missing/a.csv"),
        ] {
            let error = Output::prepare(&path).unwrap_err();
            assert!(
                format!("{error:#}").contains("cannot write to"),
                "{error:#}"
            );
        }
    }

    const NAMES: &[&str] = &["report.html", "data.csv"];

    fn report(path: &Path, content: &'static str) -> Result<PathBuf> {
        let folder = OutputFolder::prepare(path, NAMES)?;
        folder.write("report.html", |out| out.write_all(content.as_bytes()))?;
        folder.finish()
    }

    #[test]
    fn a_report_replaces_a_report_and_an_empty_folder() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("report");
        fs::create_dir(&path).unwrap();
        report(&path, "first").unwrap();
        report(&path, "second").unwrap();
        assert_eq!(text(&path.join("report.html")), "second");
        assert_eq!(names_in(parent.path()), ["report"]);
    }

    #[test]
    fn a_folder_with_something_else_in_it_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("report");
        report(&path, "first").unwrap();
        put(&path.join("notes.txt"), "mine").unwrap();
        let error = report(&path, "second").unwrap_err().to_string();
        assert!(
            error.contains("notes.txt") && error.contains("--out"),
            "{error}"
        );
        assert_eq!(text(&path.join("report.html")), "first");
        assert_eq!(names_in(parent.path()), ["report"]);
    }

    #[test]
    fn a_report_that_is_not_finished_does_not_appear() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("report");
        report(&path, "first").unwrap();
        let folder = OutputFolder::prepare(&path, NAMES).unwrap();
        folder
            .write("data.csv", |out| out.write_all(b"half"))
            .unwrap();
        drop(folder);
        assert_eq!(names_in(&path), ["report.html"]);
        assert_eq!(names_in(parent.path()), ["report"]);
    }
}
