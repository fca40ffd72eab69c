//! The guest's first file system: the user's, if there is one, and our program on top of it.

use std::io::{self, Read, Write};
use std::path::Path;

use cpio::newc;

use super::LinuxError;
use super::image::open_ordinary;
use super::program::{PROGRAM, linux_program};

/// Where an archive may begin behind another.
const ALIGNMENT: usize = 4;

/// The kernel takes what follows an archive in LZ4 for its next block, unless that has no length. Behind others it
/// skips zeros.
const END_OF_LZ4: usize = 4;

const FOLDER: u32 = 0o040_755;
const RUNNABLE: u32 = 0o100_755;

/// What a kernel unpacks: one archive after the other. What is in the user's, and how it is packed, is
/// between him and the kernel.
pub(super) fn build(user: Option<&Path>, memory_bytes: u64) -> Result<Vec<u8>, LinuxError> {
    let mut archives = match user {
        Some(path) => read(path, memory_bytes).map_err(|source| LinuxError::File {
            what: "initrd",
            path: path.to_owned(),
            source,
        })?,
        None => vec![],
    };
    if !archives.is_empty() {
        let end = archives.len().next_multiple_of(ALIGNMENT);
        archives.resize(end + END_OF_LZ4, 0);
    }
    archives.extend(ours().expect("a vector takes everything"));
    Ok(archives)
}

/// No more than could ever fit, and with one byte too many if it does not.
fn read(path: &Path, memory_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![];
    let file = open_ordinary(path)?;
    file.take(memory_bytes + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn ours() -> io::Result<Vec<u8>> {
    let path = PROGRAM.trim_start_matches('/');
    let folder = path.split('/').next().unwrap_or(path);
    let mut out = vec![];
    for (number, name, mode, contents) in [
        (1, folder, FOLDER, &[][..]),
        (2, path, RUNNABLE, linux_program()),
    ] {
        let entry = newc::Builder::new(name).ino(number).mode(mode);
        let mut entry = entry.write(out, contents.len() as u32);
        entry.write_all(contents)?;
        out = entry.finish()?;
    }
    newc::trailer(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_archive_follows_the_users_where_a_kernel_looks_for_it() {
        let mut theirs = tempfile::NamedTempFile::new().unwrap();
        theirs.write_all(b"packed").unwrap();
        let both = build(Some(theirs.path()), 1 << 20).unwrap();
        assert_eq!(both[..12], *b"packed\0\0\0\0\0\0");
        assert_eq!(both[12..], build(None, 1 << 20).unwrap());
    }

    #[test]
    fn our_archive_holds_the_program_in_its_folder() {
        let archive = build(None, 1 << 20).unwrap();
        let folder = newc::Reader::new(&archive[..]).unwrap();
        assert_eq!(
            (folder.entry().name(), folder.entry().mode()),
            ("splitlock", FOLDER)
        );
        let program = newc::Reader::new(folder.finish().unwrap()).unwrap();
        assert_eq!(program.entry().name(), "splitlock/split");
        assert_eq!(program.entry().mode(), RUNNABLE);
        let mut bytes = vec![];
        let rest = program.to_writer(&mut bytes).unwrap();
        assert_eq!(bytes, linux_program());
        assert!(newc::Reader::new(rest).unwrap().entry().is_trailer());
    }

    #[test]
    fn an_initrd_that_is_not_there_is_an_error_that_names_it() {
        let error = build(Some(Path::new("/missing/initrd")), 1 << 20).unwrap_err();
        assert!(error.to_string().contains("/missing/initrd"), "{error}");
    }
}
