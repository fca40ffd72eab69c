//! All logs in a file: one, or those that an archive holds.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek};
use std::ops::ControlFlow;
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::kmsg::Kmsg;
use super::{Bytes, Opened, Source};

/// An archive that comes from a pipe has to fit in memory, if its directory is at its end.
const MOST_BYTES_FROM_PIPE: u64 = 64 << 20;

/// The kernel refuses to give a record to a read that is shorter than it.
const KMSG_READ_BYTES: usize = 16 << 10;

/// No archive of a machine's logs has more files. A sosreport has some ten thousand, and as many links and folders.
const MOST_FILES: u64 = 200_000;
const MOST_EXPANDED_BYTES: u64 = 4 << 30;

/// No log that is compressed in an archive is larger before it is decompressed.
const MOST_MEMBER_BYTES: u64 = 256 << 20;

/// What of an archive was not read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Files that are no text, archives in the archive, and what is packed in a way that is not supported.
    pub members: u64,
    /// The first of them, and why.
    pub first: Option<String>,
}

impl LeftOut {
    /// Counts a file.
    pub fn add(&mut self, name: &str, why: &dyn std::fmt::Display) {
        self.members += 1;
        self.first.get_or_insert_with(|| format!("{name}: {why}"));
    }
}

/// Is shown a log, and its name if it is in an archive; says whether to go on. Reading a damaged one is an error.
pub type Visit<'a> = dyn FnMut(Option<&str>, &mut dyn Read) -> io::Result<ControlFlow<()>> + 'a;

/// Shows each log in a file to `visit`, with its name in the archive if it is one of several. What in an archive is no
/// text is left out, and counted.
///
/// # Errors
/// If the file cannot be read or is of a kind that is not read, or if `visit` fails.
pub fn for_each_log(path: &Path, visit: &mut Visit<'_>) -> io::Result<LeftOut> {
    if let Some(kmsg) = Kmsg::open(path)? {
        let _ = visit(None, &mut BufReader::with_capacity(KMSG_READ_BYTES, kmsg))?;
        return Ok(LeftOut::default());
    }
    for_each_in(Box::new(super::open_file(path)?), Some(path), visit)
}

impl Source {
    /// The same for what is read from anything.
    ///
    /// # Errors
    /// As [`for_each_log`].
    pub fn for_each(
        input: impl Read + Send + 'static,
        visit: &mut Visit<'_>,
    ) -> io::Result<LeftOut> {
        for_each_in(Box::new(input), None, visit)
    }
}

fn for_each_in(input: Bytes, path: Option<&Path>, visit: &mut Visit<'_>) -> io::Result<LeftOut> {
    match Opened::new(input)? {
        Opened::Text(mut source) => {
            let _ = visit(None, &mut source)?;
            Ok(LeftOut::default())
        }
        Opened::Tar(bytes) => in_tar(bytes, visit),
        Opened::Zip(bytes) => match path.map(File::open).transpose()? {
            Some(file) if file.metadata()?.is_file() => in_zip(file, visit),
            _ => {
                let mut all = vec![];
                bytes.take(MOST_BYTES_FROM_PIPE + 1).read_to_end(&mut all)?;
                if all.len() as u64 > MOST_BYTES_FROM_PIPE {
                    return Err(io::Error::other(
                        "it is a large zip archive from a pipe: save it to a file first",
                    ));
                }
                in_zip(Cursor::new(all), visit)
            }
        },
    }
}

fn in_tar(bytes: Bytes, visit: &mut Visit<'_>) -> io::Result<LeftOut> {
    let mut members = Members::new(visit);
    let mut left = MOST_EXPANDED_BYTES;
    let mut archive = tar::Archive::new(Limited {
        inner: bytes,
        left: &mut left,
    });
    for member in archive.entries()? {
        let mut member = member?;
        let name = String::from_utf8_lossy(&member.path_bytes()).into_owned();
        if member.header().entry_type().is_file() && members.see(&name, &mut member)?.is_break() {
            break;
        }
    }
    Ok(members.left_out)
}

fn in_zip(file: impl Read + Seek, visit: &mut Visit<'_>) -> io::Result<LeftOut> {
    let mut members = Members::new(visit);
    let broken = |error: &dyn std::fmt::Display| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("as a zip archive it cannot be read: {error}"),
        )
    };
    let mut archive = ZipArchive::new(file).map_err(|error| broken(&error))?;
    for number in 0..archive.len() {
        let mut member = match archive.by_index(number) {
            Ok(member) => member,
            Err(error @ ZipError::UnsupportedArchive(_)) => {
                members.left_out.add(&format!("member {number}"), &error);
                continue;
            }
            Err(error) => {
                let name = format!("member {number}");
                if (members.visit)(Some(&name), &mut Damaged(Some(error.into())))?.is_break() {
                    break;
                }
                continue;
            }
        };
        if !member.is_file() {
            continue;
        }
        let name = member
            .name()
            .map_or_else(|_| format!("member {number}"), std::borrow::Cow::into_owned);
        if members.see(&name, &mut member)?.is_break() {
            break;
        }
    }
    Ok(members.left_out)
}

/// Ends in an error what expands to more than it may.
struct Limited<'a, R> {
    inner: R,
    left: &'a mut u64,
}

impl<R: Read> Read for Limited<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(to)?;
        *self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            let most = MOST_EXPANDED_BYTES >> 30;
            io::Error::other(format!(
                "it expands to more than {most} GiB: unpack it first"
            ))
        })?;
        Ok(count)
    }
}

struct Members<'a, 'v> {
    visit: &'a mut Visit<'v>,
    left_out: LeftOut,
    files: u64,
    /// What they may still expand to, all together.
    left: u64,
}

impl<'a, 'v> Members<'a, 'v> {
    fn new(visit: &'a mut Visit<'v>) -> Self {
        Members {
            visit,
            left_out: LeftOut::default(),
            files: 0,
            left: MOST_EXPANDED_BYTES,
        }
    }

    fn see(&mut self, name: &str, member: &mut dyn Read) -> io::Result<ControlFlow<()>> {
        self.files += 1;
        if self.files > MOST_FILES {
            return Err(io::Error::other(format!(
                "it has more than {MOST_FILES} files: unpack it, and give --root"
            )));
        }
        let mut member = Limited {
            inner: member,
            left: &mut self.left,
        };
        let head = match super::head(&mut member) {
            Ok(head) => head,
            Err(error) => return (self.visit)(Some(name), &mut Damaged(Some(error))),
        };
        let is_plain = super::formats::of(&head).is_none()
            && !super::formats::is_tar(&head)
            && !super::formats::is_binary(&head)
            && super::utf16::order_of(&head).is_none();
        let mut whole = Cursor::new(&head).chain(&mut member);
        if is_plain {
            return (self.visit)(Some(name), &mut whole);
        }
        // What is compressed once more has to be read to its end first: it borrows from the archive.
        let mut bytes = vec![];
        let opened = whole
            .take(MOST_MEMBER_BYTES)
            .read_to_end(&mut bytes)
            .and_then(|_| Opened::new(Box::new(Cursor::new(bytes))));
        match opened {
            Ok(Opened::Text(inner)) => {
                let mut text = Limited {
                    inner,
                    left: &mut self.left,
                };
                return (self.visit)(Some(name), &mut text);
            }
            Ok(Opened::Tar(_) | Opened::Zip(_)) => {
                self.left_out.add(name, &"an archive in an archive");
            }
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                self.left_out.add(name, &error);
            }
            Err(error) => return (self.visit)(Some(name), &mut Damaged(Some(error))),
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// A log that cannot be read, for the reason that its first read gives.
struct Damaged(Option<io::Error>);

impl Read for Damaged {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}
