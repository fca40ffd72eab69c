//! Whether a program can be covered: what the file says that the kernel is going to execute.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Scripts whose interpreter is a script and so on; the kernel allows as many.
const MOST_SCRIPTS: u32 = 5;

/// A program that a library can be loaded into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// As it is to be started.
    pub(crate) path: PathBuf,
    /// The ELF file: itself, or the interpreter of a script.
    pub(crate) elf: PathBuf,
    /// The program that loads its libraries.
    pub(crate) loader: PathBuf,
}

impl Program {
    /// Finds a program by its name, as a shell does.
    ///
    /// # Errors
    /// If there is none, or it cannot be covered.
    pub(crate) fn find(name: &OsStr) -> Result<Self> {
        let path = search(name, env::var_os("PATH"))?;
        let mut elf = path.clone();
        for _ in 0..MOST_SCRIPTS {
            match look_at(&elf)? {
                Kind::Script(interpreter) => elf = interpreter,
                Kind::Dynamic(loader) => return Ok(Self { path, elf, loader }),
            }
        }
        bail!(
            "{} is a script whose interpreters are scripts without end",
            path.display()
        )
    }
}

fn search(name: &OsStr, path: Option<OsString>) -> Result<PathBuf> {
    let shown = name.to_string_lossy();
    if name.as_bytes().contains(&b'/') {
        return Ok(name.into());
    }
    let folders = path.unwrap_or_else(|| "/usr/bin:/bin".into());
    let candidates = env::split_paths(&folders).map(|folder| folder.join(name));
    let is_executable =
        |path: &PathBuf| fs::metadata(path).is_ok_and(|it| it.is_file() && it.mode() & 0o111 != 0);
    let mut candidates = candidates.filter(is_executable);
    candidates
        .next()
        .with_context(|| format!("there is no program {shown} in the folders of PATH"))
}

/// What the kernel makes of an executable file.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Script(PathBuf),
    Dynamic(PathBuf),
}

fn look_at(path: &Path) -> Result<Kind> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let metadata = file
        .metadata()
        .with_context(|| format!("cannot look at {shown}"))?;
    if !metadata.is_file() {
        bail!("{shown} is not a file that can be executed");
    }
    if let Some(why) = privilege(path, &metadata) {
        bail!(
            "{shown} {why}, so that no library may be added; start splitlock itself as that user instead"
        );
    }
    let mut head = Vec::new();
    (&file)
        .take(4096)
        .read_to_end(&mut head)
        .with_context(|| format!("cannot read {shown}"))?;
    kind(&head, &|at, bytes| {
        let mut part = vec![0; bytes];
        file.read_exact_at(&mut part, at).ok()?;
        Some(part)
    })
    .with_context(|| format!("{shown} cannot be covered"))
}

/// Why the kernel would not let anybody add a library.
fn privilege(path: &Path, metadata: &fs::Metadata) -> Option<&'static str> {
    const SET_USER: u32 = 0o4000;
    const SET_GROUP: u32 = 0o2010;
    let user = rustix::process::getuid().as_raw();
    let group = rustix::process::getgid().as_raw();
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

/// `part` reads so many bytes from there.
fn kind(head: &[u8], part: &dyn Fn(u64, usize) -> Option<Vec<u8>>) -> Result<Kind> {
    const X86_64: u64 = 62;
    const CLASS_64: u8 = 2;
    const LITTLE: u8 = 1;
    const LONGEST_PATH: u64 = 4096;
    if let Some(line) = head.strip_prefix(b"#!") {
        return script(line);
    }
    if !head.starts_with(b"\x7fELF") {
        bail!("it is neither an ELF file nor a script");
    }
    let broken = "its ELF header is damaged";
    let identity = head.get(4..6).context(broken)?;
    if identity != [CLASS_64, LITTLE] || number::<2>(head, 18).context(broken)? != X86_64 {
        bail!("it is not for x86-64");
    }
    let (start, size, count) = (
        number::<8>(head, 32).context(broken)?,
        number::<2>(head, 54).context(broken)?,
        number::<2>(head, 56).context(broken)?,
    );
    for n in 0..count {
        const INTERPRETER: u64 = 3;
        let at = start.checked_add(n * size).context(broken)?;
        let header = part(at, 56).context(broken)?;
        if number::<4>(&header, 0) == Some(INTERPRETER) {
            let at = number::<8>(&header, 8).context(broken)?;
            let bytes = number::<8>(&header, 32).context(broken)?;
            let path = part(at, bytes.min(LONGEST_PATH) as usize).context(broken)?;
            let path = path.split(|&byte| byte == 0).next().unwrap_or_default();
            return Ok(Kind::Dynamic(OsString::from_vec(path.to_vec()).into()));
        }
    }
    bail!("it is statically linked, and so takes no library; use a dynamically linked build of it")
}

fn script(line: &[u8]) -> Result<Kind> {
    let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(u8::is_ascii_whitespace);
    let interpreter = words.find(|word| !word.is_empty());
    let interpreter = interpreter.context("it is a script that names no interpreter")?;
    Ok(Kind::Script(
        OsString::from_vec(interpreter.to_vec()).into(),
    ))
}

/// A number of so many bytes, the lowest first.
fn number<const BYTES: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let part = bytes.get(at..at + BYTES)?;
    Some(
        part.iter()
            .rev()
            .fold(0, |all, &byte| all << 8 | u64::from(byte)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf() -> Vec<u8> {
        fs::read(env::current_exe().unwrap()).unwrap()
    }

    fn of(bytes: &[u8]) -> Result<Kind> {
        kind(&bytes[..bytes.len().min(4096)], &|at, count| {
            let at = usize::try_from(at).ok()?;
            Some(bytes.get(at..at.checked_add(count)?)?.to_vec())
        })
    }

    fn refusal(bytes: &[u8]) -> String {
        of(bytes).unwrap_err().to_string()
    }

    #[test]
    fn a_dynamic_program_has_a_loader_and_a_script_an_interpreter() {
        let Kind::Dynamic(loader) = of(&elf()).unwrap() else {
            panic!("this test is a program")
        };
        assert!(loader.exists(), "{loader:?}");
        assert_eq!(
            of(b"#! /usr/bin/env -S bash\n").unwrap(),
            Kind::Script("/usr/bin/env".into())
        );
    }

    #[test]
    fn what_cannot_be_covered_is_told_apart() {
        let mut bytes = elf();
        bytes[18] = 183;
        assert!(refusal(&bytes).contains("not for x86-64"));
        let mut bytes = elf();
        bytes[56] = 0;
        bytes[57] = 0;
        assert!(refusal(&bytes).contains("statically linked"));
        assert!(refusal(b"MZ").contains("neither"));
        assert!(refusal(b"#!\n").contains("no interpreter"));
        assert!(refusal(b"").contains("neither"));
    }

    #[test]
    fn a_damaged_file_is_refused_and_nothing_else() {
        let whole = elf();
        for length in 4..200 {
            assert!(of(&whole[..length]).is_err(), "{length} bytes");
        }
        for at in 16..64 {
            let mut bytes = whole.clone();
            bytes[at] = 0xff;
            let _ = of(&bytes);
        }
    }
}
