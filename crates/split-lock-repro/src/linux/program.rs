//! The program that a Linux guest gets: its first process, and the one that splits locks.

pub use crate::sys::linux_program::SPLIT_LOCKS;
pub(super) use crate::sys::linux_program::linux_program;

/// Where the program lies in the guest. As the first process it becomes a shell, if there is one;
/// started from there it splits locks.
pub const PROGRAM: &str = "/splitlock/split";

/// What it says as the first process, before it becomes a shell.
pub(super) const UP_MARK: &str = "this guest is up";

/// What the program says before the first split lock.
pub(super) const BEGIN_MARK: &str = "splitlock: 1000 split locks begin";

/// What it says after the last.
pub(super) const END_MARK: &str = "splitlock: all 1000 split locks are done";

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
        out.unwrap().write_all(linux_program()).unwrap();
        let mut program = Command::new(&path);
        // As root it would change how this machine schedules.
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            const NOBODY: u32 = 65534;
            program.uid(NOBODY).gid(NOBODY);
        }
        let said = String::from_utf8(program.output().unwrap().stdout).unwrap();
        let done = ["splitlock: 1 done", "splitlock: 1000 done"];
        for part in [BEGIN_MARK, done[0], done[1], END_MARK] {
            assert!(said.contains(part), "{said}");
        }
    }
}
