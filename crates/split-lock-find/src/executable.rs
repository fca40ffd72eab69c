//! What the kernel would make of an executable file.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};

/// Scripts whose interpreter is a script and so on; the kernel allows as many.
pub const MOST_SCRIPTS: u32 = 5;

/// The kernel reads no more of a file to find out what it is.
const HEAD: usize = 256;

/// What a file is to execve(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Executable {
    /// A program.
    Elf(Elf),
    /// A text that another program is started for.
    Script(Script),
    /// A text that begins with `#!` and names nothing.
    ScriptWithoutInterpreter,
    /// It says that it is an ELF file, and is none.
    DamagedElf,
    /// Something that only binfmt_misc or a shell may know.
    Other,
}

/// A program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elf {
    /// What it runs on.
    pub machine: Machine,
    /// The program that loads its libraries, if it has any.
    pub loader: Option<PathBuf>,
}

/// The machine that a program is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// With 64-bit code and addresses.
    X86_64,
    /// With 32-bit code.
    I386,
    /// x32 and everything else.
    Other,
}

/// The first line of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The program that is started.
    pub interpreter: PathBuf,
    /// Its only argument from that line, which is everything that follows.
    pub argument: Option<OsString>,
}

/// Finds a program by its name, as a shell does.
#[must_use]
pub fn search(name: &OsStr, path: Option<OsString>) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(name.into());
    }
    let folders = path.unwrap_or_else(|| "/usr/bin:/bin".into());
    let is_executable =
        |path: &PathBuf| fs::metadata(path).is_ok_and(|it| it.is_file() && it.mode() & 0o111 != 0);
    std::env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .find(is_executable)
}

/// Whether this process may execute it, as far as permissions and mount options go.
#[must_use]
pub fn is_permitted(path: &Path) -> bool {
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

/// Why the kernel would give it more rights than this process has, if it would.
#[must_use]
pub fn privilege(path: &Path, metadata: &Metadata) -> Option<&'static str> {
    const SET_USER: u32 = 0o4000;
    const SET_GROUP: u32 = 0o2010;
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    let mode = metadata.mode();
    if mode & SET_USER != 0 && metadata.uid() != user {
        return Some("has the set-user-ID bit");
    }
    if mode & SET_GROUP == SET_GROUP && metadata.gid() != group {
        return Some("has the set-group-ID bit");
    }
    let mut capabilities = [0; 64];
    let has_any = rustix::fs::getxattr(path, "security.capability", &mut capabilities).is_ok();
    // They mean nothing to root.
    (has_any && user != 0).then_some("has capabilities of its own")
}

impl Executable {
    /// Looks at an ordinary file, of which the metadata come along.
    ///
    /// # Errors
    /// If it cannot be read, or is no ordinary file.
    pub fn open(path: &Path) -> io::Result<(Self, Metadata)> {
        // Opening a pipe would wait for a writer.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is not a file that can be executed"));
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let mut head = Vec::new();
        (&file).take(HEAD as u64).read_to_end(&mut head)?;
        let part = |at, bytes| {
            let mut part = vec![0; bytes];
            file.read_exact_at(&mut part, at).ok()?;
            Some(part)
        };
        Ok((Self::of(&head, &part), metadata))
    }

    /// `part` reads so many bytes from there.
    fn of(head: &[u8], part: &dyn Fn(u64, usize) -> Option<Vec<u8>>) -> Self {
        if let Some(line) = head.strip_prefix(b"#!") {
            return script(line).map_or(Self::ScriptWithoutInterpreter, Self::Script);
        }
        if !head.starts_with(b"\x7fELF") {
            return Self::Other;
        }
        elf(head, part).map_or(Self::DamagedElf, Self::Elf)
    }
}

/// Where an ELF file of one class has what is needed here.
struct Layout {
    headers: fn(&[u8]) -> Option<u64>,
    header_bytes: usize,
    header_count: usize,
    entry_bytes: usize,
    entry_offset: fn(&[u8]) -> Option<u64>,
    entry_file_bytes: fn(&[u8]) -> Option<u64>,
}

const OF_64: Layout = Layout {
    headers: |head| number::<8>(head, 32),
    header_bytes: 54,
    header_count: 56,
    entry_bytes: 56,
    entry_offset: |entry| number::<8>(entry, 8),
    entry_file_bytes: |entry| number::<8>(entry, 32),
};

const OF_32: Layout = Layout {
    headers: |head| number::<4>(head, 28),
    header_bytes: 42,
    header_count: 44,
    entry_bytes: 32,
    entry_offset: |entry| number::<4>(entry, 4),
    entry_file_bytes: |entry| number::<4>(entry, 16),
};

fn elf(head: &[u8], part: &dyn Fn(u64, usize) -> Option<Vec<u8>>) -> Option<Elf> {
    const CLASS_32: u8 = 1;
    const CLASS_64: u8 = 2;
    const LITTLE: u8 = 1;
    const I386: u64 = 3;
    const X86_64: u64 = 62;
    const INTERPRETER: u64 = 3;
    const LONGEST_PATH: u64 = 4096;
    let &[class, order] = head.get(4..6)?.first_chunk()?;
    let (machine, layout) = match (class, order, number::<2>(head, 18)?) {
        (CLASS_64, LITTLE, X86_64) => (Machine::X86_64, OF_64),
        (CLASS_32, LITTLE, I386) => (Machine::I386, OF_32),
        _ => {
            return Some(Elf {
                machine: Machine::Other,
                loader: None,
            });
        }
    };
    let start = (layout.headers)(head)?;
    let size = number::<2>(head, layout.header_bytes)?;
    for n in 0..number::<2>(head, layout.header_count)? {
        let entry = part(start.checked_add(n * size)?, layout.entry_bytes)?;
        if number::<4>(&entry, 0)? == INTERPRETER {
            let bytes = (layout.entry_file_bytes)(&entry)?.min(LONGEST_PATH);
            let path = part((layout.entry_offset)(&entry)?, bytes as usize)?;
            let path = path.split(|&byte| byte == 0).next().unwrap_or_default();
            return Some(Elf {
                machine,
                loader: Some(OsString::from_vec(path.to_vec()).into()),
            });
        }
    }
    Some(Elf {
        machine,
        loader: None,
    })
}

fn script(line: &[u8]) -> Option<Script> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let line = line
        .split(|&byte| byte == b'\n' || byte == 0)
        .next()?
        .trim_ascii();
    let end = line.iter().position(is_blank).unwrap_or(line.len());
    let (interpreter, argument) = line.split_at(end);
    let argument = argument.trim_ascii();
    let owned = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    (!interpreter.is_empty()).then(|| Script {
        interpreter: owned(interpreter).into(),
        argument: (!argument.is_empty()).then(|| owned(argument)),
    })
}

/// A number of so many bytes, the lowest first.
fn number<const BYTES: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let part = bytes.get(at..at.checked_add(BYTES)?)?;
    Some(
        part.iter()
            .rev()
            .fold(0, |all, &byte| all << 8 | u64::from(byte)),
    )
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    fn this_test() -> Vec<u8> {
        fs::read(env::current_exe().unwrap()).unwrap()
    }

    fn of(bytes: &[u8]) -> Executable {
        Executable::of(&bytes[..bytes.len().min(HEAD)], &|at, count| {
            let at = usize::try_from(at).ok()?;
            Some(bytes.get(at..at.checked_add(count)?)?.to_vec())
        })
    }

    /// A program of 32 bits with one header, that of its loader.
    fn of_32_bits() -> Vec<u8> {
        let mut bytes = vec![0; 100];
        bytes[..7].copy_from_slice(b"\x7fELF\x01\x01\x01");
        bytes[18] = 3;
        (bytes[28], bytes[42], bytes[44]) = (52, 32, 1);
        (bytes[52], bytes[56], bytes[68]) = (3, 84, 7);
        bytes[84..91].copy_from_slice(b"/ld.so\0");
        bytes
    }

    #[test]
    fn a_dynamic_program_has_a_loader() {
        let Executable::Elf(elf) = of(&this_test()) else {
            panic!("this test is a program")
        };
        assert_eq!(elf.machine, Machine::X86_64);
        assert!(elf.loader.is_some_and(|loader| loader.exists()));
        let expected = Elf {
            machine: Machine::I386,
            loader: Some("/ld.so".into()),
        };
        assert_eq!(of(&of_32_bits()), Executable::Elf(expected));
    }

    #[test]
    fn a_script_has_an_interpreter_and_at_most_one_argument() {
        for (line, interpreter, argument) in [
            (
                &b"#! /usr/bin/env -S bash -e \n"[..],
                "/usr/bin/env",
                Some("-S bash -e"),
            ),
            (b"#!/bin/sh", "/bin/sh", None),
            (b"#!/bin/sh\t \nexit", "/bin/sh", None),
        ] {
            let expected = Script {
                interpreter: interpreter.into(),
                argument: argument.map(OsString::from),
            };
            assert_eq!(of(line), Executable::Script(expected));
        }
        assert_eq!(of(b"#! \n/bin/sh"), Executable::ScriptWithoutInterpreter);
    }

    #[test]
    fn others_are_told_apart() {
        let mut bytes = this_test();
        bytes[18] = 183;
        let Executable::Elf(elf) = of(&bytes) else {
            panic!("it is one")
        };
        assert_eq!(elf.machine, Machine::Other);
        let mut bytes = this_test();
        bytes[56] = 0;
        bytes[57] = 0;
        let is_static = |elf: &Elf| elf.loader.is_none() && elf.machine == Machine::X86_64;
        assert!(matches!(of(&bytes), Executable::Elf(elf) if is_static(&elf)));
        assert_eq!(of(b"MZ"), Executable::Other);
        assert_eq!(of(b""), Executable::Other);
    }

    #[test]
    fn a_damaged_file_is_damaged_and_nothing_else() {
        for whole in [this_test(), of_32_bits()] {
            for length in 4..52 {
                assert_eq!(
                    of(&whole[..length]),
                    Executable::DamagedElf,
                    "{length} bytes"
                );
            }
            for at in 4..64 {
                let mut bytes = whole.clone();
                bytes[at] = 0xff;
                let _ = of(&bytes);
            }
        }
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        assert!(Executable::open(&pipe).is_err());
        assert!(Executable::open(folder.path()).is_err());
    }
}
