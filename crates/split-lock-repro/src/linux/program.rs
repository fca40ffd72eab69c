//! The program that a Linux guest gets: its first process, and the one that splits locks.

pub use crate::sys::linux_program::SPLIT_LOCKS;
use crate::sys::linux_program::linux_program;

/// Where the program lies in the guest. As the first process it becomes a shell, if there is one;
/// started from there it splits locks.
pub const PROGRAM: &str = "/splitlock/split";

/// What it says as the first process, before it becomes a shell.
pub(super) const UP_MARK: &str = "this guest is up";

/// What the program says before the first split lock.
pub(super) const BEGIN_MARK: &str = "splitlock: 1000 split locks begin";

/// What it says after the last.
pub(super) const END_MARK: &str = "splitlock: all 1000 split locks are done";

/// Three bytes of code.
pub type Prefix = [u8; 3];

/// Stands before the locked instruction, and does nothing.
const NOTHING: Prefix = [0x0f, 0x1f, 0x00];

/// `lock inc dword ptr [rbp - 2]`
const LOCKED: [u8; 4] = [0xf0, 0xff, 0x45, 0xfe];

/// Where the program is mapped, and where it begins in its file.
const ADDRESS: u64 = 0x40_0000;
const HEADERS: u64 = ELF_HEADER as u64 + PROGRAM_HEADER as u64;
const ELF_HEADER: u16 = 64;
const PROGRAM_HEADER: u16 = 56;

/// The program as a file, with something else than nothing before its locked instruction if that is
/// asked for.
pub(super) fn file(prefix: Option<Prefix>) -> Vec<u8> {
    let mut code = linux_program().to_vec();
    if let Some(prefix) = prefix {
        let at = split_lock(&code);
        code[at..][..prefix.len()].copy_from_slice(&prefix);
    }
    let mut file = headers(code.len() as u64);
    file.extend(code);
    file
}

/// Where the locked instruction is, with what stands before it.
fn split_lock(code: &[u8]) -> usize {
    let wanted = [&NOTHING[..], &LOCKED].concat();
    let found = code.windows(wanted.len()).position(|part| part == wanted);
    found.expect("the program is ours")
}

/// An ELF program of one segment: the whole file, to be read and executed.
fn headers(code_bytes: u64) -> Vec<u8> {
    const IDENT: [u8; 16] = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0";
    const EXECUTABLE: u16 = 2;
    const X86_64: u16 = 62;
    const LOADED: u32 = 1;
    const READ_AND_EXECUTE: u32 = 5;
    const PAGE: u64 = 0x1000;
    let mut file = IDENT.to_vec();
    put(&mut file, [EXECUTABLE, X86_64].map(u16::to_le_bytes));
    put(&mut file, [1u32.to_le_bytes()]);
    let (entry, program_headers, sections) = (ADDRESS + HEADERS, u64::from(ELF_HEADER), 0);
    put(
        &mut file,
        [entry, program_headers, sections].map(u64::to_le_bytes),
    );
    put(&mut file, [0u32.to_le_bytes()]);
    let sizes = [ELF_HEADER, PROGRAM_HEADER, 1, 0, 0, 0];
    put(&mut file, sizes.map(u16::to_le_bytes));

    put(&mut file, [LOADED, READ_AND_EXECUTE].map(u32::to_le_bytes));
    let size = HEADERS + code_bytes;
    let segment = [0, ADDRESS, ADDRESS, size, size, PAGE];
    put(&mut file, segment.map(u64::to_le_bytes));
    file
}

fn put<const N: usize, const BYTES: usize>(file: &mut Vec<u8>, values: [[u8; BYTES]; N]) {
    file.extend(values.as_flattened());
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions, Permissions};
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use nix::sys::resource::{Resource, setrlimit};

    use super::*;

    #[test]
    fn the_console_is_searched_for_what_the_program_says() {
        let text = String::from_utf8_lossy(linux_program()).into_owned();
        for said in [UP_MARK, BEGIN_MARK, END_MARK, PROGRAM] {
            assert!(text.contains(said), "{said}");
        }
        assert!(BEGIN_MARK.contains(&SPLIT_LOCKS.to_string()));
        assert!(END_MARK.contains(&SPLIT_LOCKS.to_string()));
    }

    #[test]
    fn something_else_before_the_locked_instruction_changes_nothing_else() {
        let (plain, other) = (file(None), file(Some([1, 2, 3])));
        let at = split_lock(linux_program()) + HEADERS as usize;
        assert_eq!(other[at..at + 3], [1, 2, 3]);
        assert_eq!(plain[..at], other[..at]);
        assert_eq!(plain[at + 3..], other[at + 3..]);
    }

    /// It is an ordinary program; where it may not become a real-time one it goes on all the same.
    #[test]
    fn the_program_runs_and_says_that_it_is_done() {
        let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        if flags.contains("split_lock_detect") {
            eprintln!("skipped: 1000 split locks would be punished here, or end the program");
            return;
        }
        // Whoever may have real-time programs is not to get one from this.
        setrlimit(Resource::RLIMIT_RTPRIO, 0, 0).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let everybody = Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), everybody).unwrap();
        let path = folder.path().join("split");
        let mut options = OpenOptions::new();
        let out = options.write(true).create_new(true).mode(0o755).open(&path);
        out.unwrap().write_all(&file(None)).unwrap();
        let mut program = Command::new(&path);
        // As root it would change how this machine schedules.
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            const NOBODY: u32 = 65534;
            program.uid(NOBODY).gid(NOBODY);
        }
        let said = String::from_utf8(program.output().unwrap().stdout).unwrap();
        for part in [
            BEGIN_MARK,
            "splitlock: 1 done",
            "splitlock: 1000 done",
            END_MARK,
        ] {
            assert!(said.contains(part), "{said}");
        }
    }
}
