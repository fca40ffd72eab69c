//! Files that appear whole or not at all.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::OFlags;
use rustix::io::Errno;

mod draft;
mod folder;

use draft::Draft;
pub(crate) use draft::discard_all;
pub(crate) use folder::OutputFolder;

use crate::stdout::{CANNOT_WRITE, is_standard, tolerate_closed_pipe};

/// As many links as the kernel would follow.
const MOST_LINKS: usize = 40;

/// A place for a result, checked before anything is measured.
#[derive(Debug)]
pub(crate) enum Output {
    /// `-`, or another name for the same.
    Standard,
    /// Something that is there and is no ordinary file, such as a pipe: it cannot be replaced.
    Existing { path: PathBuf, file: File },
    /// An ordinary file, and beside it what will become it.
    File {
        path: PathBuf,
        draft: Draft,
        file: File,
    },
}

impl Output {
    /// # Errors
    /// If nothing can be written there.
    pub(crate) fn prepare(path: &Path) -> Result<Self> {
        if is_standard(path) {
            return Ok(Output::Standard);
        }
        let path = resolve(path);
        let there = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            metadata => Some(metadata.with_context(|| cannot_write(&path))?),
        };
        match there {
            Some(metadata) if metadata.is_dir() => bail!("{}: it is a folder", cannot_write(&path)),
            Some(metadata) if is_standard_output(&metadata) => Ok(Output::Standard),
            Some(metadata) if !metadata.is_file() => {
                let file = open_existing(&path).with_context(|| cannot_write(&path))?;
                Ok(Output::Existing { path, file })
            }
            there => {
                let (draft, file) =
                    draft_beside(&path, there.as_ref()).with_context(|| cannot_write(&path))?;
                Ok(Output::File { path, draft, file })
            }
        }
    }

    /// Whether one of them would overwrite the other, or mix with it.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Output::Standard, Output::Standard) => true,
            (Output::File { path: one, .. }, Output::File { path: other, .. }) => one == other,
            (Output::Existing { file: one, .. }, Output::Existing { file: other, .. }) => {
                match (one.metadata(), other.metadata()) {
                    (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
                    _ => false,
                }
            }
            _ => false,
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
            Output::Existing { path, file } => {
                tolerate_closed_pipe(buffered(file, content)).with_context(|| cannot_write(&path))
            }
            Output::File {
                path,
                draft,
                mut file,
            } => buffered(&mut file, content)
                .and_then(|()| file.sync_all())
                .and_then(|()| draft.place_file(&path))
                .with_context(|| cannot_write(&path)),
        }
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write to {}", path.display())
}

fn buffered(
    to: impl Write,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut writer = BufWriter::new(to);
    content(&mut writer)?;
    writer.flush()
}

/// One name for each place. A link is not replaced: what it points to is, or will be there.
fn resolve(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        if let Ok(path) = fs::canonicalize(&path) {
            return path;
        }
        // A pipe's link in /proc names no path, and can be followed all the same.
        match fs::read_link(&path) {
            Ok(target) if !path.exists() => path = folder_of(&path).join(target),
            _ => break,
        }
    }
    match (fs::canonicalize(folder_of(&path)), path.file_name()) {
        (Ok(folder), Some(name)) if !path.exists() => folder.join(name),
        _ => path,
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn is_standard_output(metadata: &Metadata) -> bool {
    rustix::fs::fstat(io::stdout()).is_ok_and(|standard| {
        (standard.st_dev, standard.st_ino) == (metadata.dev(), metadata.ino())
    })
}

/// Opening a pipe would wait for its reader, and there may never be one.
fn open_existing(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(OFlags::NONBLOCK.union(OFlags::NOCTTY).bits() as i32)
        .open(path);
    if let Err(error) = &file
        && Errno::from_io_error(error) == Some(Errno::NXIO)
    {
        bail!("nobody reads from it; start what reads first");
    }
    let file = file?;
    let flags = rustix::fs::fcntl_getfl(file.as_fd())?;
    rustix::fs::fcntl_setfl(file.as_fd(), flags.difference(OFlags::NONBLOCK))?;
    Ok(file)
}

/// With the mode of its predecessor, which must be one that the user may write to.
fn draft_beside(path: &Path, there: Option<&Metadata>) -> io::Result<(Draft, File)> {
    if there.is_some() {
        OpenOptions::new().write(true).open(path)?;
    }
    let (draft, file) = Draft::file_in(folder_of(path))?;
    if let Some(there) = there {
        file.set_permissions(there.permissions())?;
    }
    Ok((draft, file))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    pub(super) fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    pub(super) fn put(path: &Path, content: &'static str) -> Result<()> {
        Output::prepare(path)?.write(|out| out.write_all(content.as_bytes()))
    }

    pub(super) fn names_in(folder: &Path) -> Vec<String> {
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
        symlink(&target, &link).unwrap();
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

    #[test]
    fn a_link_to_nothing_yet_stays_one_too() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        symlink("target", &link).unwrap();
        put(&link, "first").unwrap();
        assert_eq!(text(&folder.path().join("target")), "first");
        assert!(link.is_symlink());
        symlink("circle", folder.path().join("circle")).unwrap();
        Output::prepare(&folder.path().join("circle")).unwrap_err();
    }

    #[test]
    fn a_successor_has_the_mode_of_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        put(&path, "first").unwrap();
        for mode in [0o600, 0o664] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            put(&path, "second").unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
        }
    }

    #[test]
    fn one_place_is_known_under_each_of_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| Output::prepare(&folder.path().join(name)).unwrap();
        symlink("a", folder.path().join("link")).unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        assert!(at("a").is_same_place(&at("./a")));
        assert!(at("a").is_same_place(&at("b/../a")));
        assert!(at("a").is_same_place(&at("link")));
        assert!(!at("a").is_same_place(&at("c")));
        let null = || Output::prepare(Path::new("/dev/full")).unwrap();
        assert!(null().is_same_place(&null()));
        assert!(!null().is_same_place(&at("a")));
    }

    #[test]
    fn errors_do_not_name_the_draft() {
        let error = Output::prepare(Path::new("/proc/a.csv")).unwrap_err();
        assert!(!format!("{error:#}").contains(draft::PREFIX), "{error:#}");
    }
}
