//! Who splits locks, from the outside: hosts that are folders, and this one.

use std::fs;
use std::os::unix::fs::symlink;

use split_lock_host::Root;
use tempfile::TempDir;

#[path = "../common/any_host.rs"]
mod any_host;
mod anything;
#[path = "../common/files.rs"]
mod files;
mod live;
mod machines;
mod owners;
mod suspects;

/// A host that is made of files.
struct Host(TempDir);

impl Host {
    /// With a first process, as every host has.
    fn new() -> Self {
        let host = Host(tempfile::tempdir().unwrap());
        host.process(1, "systemd", &["/sbin/init"], "0::/init.scope\n");
        host
    }

    fn root(&self) -> Root {
        Root::open(self.0.path()).unwrap()
    }

    fn file(&self, path: &str, text: impl AsRef<[u8]>) {
        files::write(self.0.path(), path, text);
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    /// A process that started 100 s after the host, with one thread.
    fn process(&self, pid: u32, comm: &str, command_line: &[&str], cgroup: &str) {
        let words: String = command_line
            .iter()
            .map(|word| format!("{word}\0"))
            .collect();
        self.file(&format!("proc/{pid}/cmdline"), words);
        self.file(&format!("proc/{pid}/cgroup"), cgroup);
        self.thread(pid, pid, comm);
    }

    fn thread(&self, pid: u32, tid: u32, comm: &str) {
        let stat = format!("{tid} ({comm}) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 10000 0 0\n");
        let status = format!("Name:\t{comm}\nTgid:\t{pid}\nPid:\t{tid}\nUid:\t0\t0\t0\t0\n");
        self.file(&format!("proc/{tid}/stat"), stat);
        self.file(&format!("proc/{tid}/status"), status);
        self.file(&format!("proc/{pid}/task/{tid}/comm"), format!("{comm}\n"));
    }
}
