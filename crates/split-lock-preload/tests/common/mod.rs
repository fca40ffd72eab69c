//! Compiles the VMMs, and runs them with and without the library.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;

use tempfile::TempDir;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Library {
    None,
    Loaded,
    FeigningStalls,
}

/// One run of a VMM.
pub(crate) struct Vmm {
    scenario: Vec<String>,
    library: Library,
    folder: TempDir,
}

pub(crate) fn vmm(scenario: &[&str], library: Library) -> Vmm {
    Vmm {
        scenario: scenario.iter().map(ToString::to_string).collect(),
        library,
        folder: tempfile::tempdir().unwrap(),
    }
}

impl Vmm {
    pub(crate) fn command(&self) -> Command {
        self.started_by(Command::new(program()))
    }

    fn started_by(&self, mut command: Command) -> Command {
        command.args(&self.scenario);
        if self.library != Library::None {
            command.env("LD_PRELOAD", library());
            command.env("SPLITLOCK_RUN_REPORTS", self.folder.path());
        }
        if self.library == Library::FeigningStalls {
            command.env("SPLITLOCK_RUN_FEIGN_STALLS", "1");
        }
        command
    }

    /// What it prints.
    pub(crate) fn run(&self) -> String {
        // One that hangs is not to hang the test.
        let mut timeout = Command::new("timeout");
        timeout.arg("120").arg(program());
        let output = self.started_by(timeout).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{:?}: {}: {text}",
            self.scenario,
            output.status
        );
        text
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// The files that were written there.
pub(crate) fn reports(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap();
    files
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect()
}

/// The sum of all numbers in a report whose names begin so.
pub(crate) fn number(report: &str, name: &str) -> u64 {
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    let vcpus = report["vcpus"].as_array().unwrap();
    let fields = vcpus.iter().flat_map(|vcpu| vcpu.as_object().unwrap());
    fields
        .filter(|(field, _)| field.starts_with(name))
        .map(|(_, value)| value.as_u64().unwrap())
        .sum()
}

/// Cargo builds it before the tests of its package, beside them.
pub(crate) fn library() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let library = tests.with_file_name("libsplit_lock_preload.so");
    assert!(library.exists(), "{}", library.display());
    library
}

fn program() -> &'static Path {
    static PROGRAM: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = PROGRAM.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vmm");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vmm/vmm.c");
        let mut compiler = Command::new("cc");
        compiler.args([
            "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", source, "-lrt", "-o",
        ]);
        assert!(compiler.arg(&path).status().unwrap().success());
        (folder, path)
    });
    path
}

pub(crate) fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let kill = Command::new("kill")
        .args([&format!("-{name}"), &pid])
        .status();
    assert!(kill.unwrap().success());
}
