//! `splitlock find`, with QEMU's user-mode emulator where it is installed.

mod children;
mod formats;
mod mistakes;
mod programs;
mod suite;
mod system;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Once, OnceLock};

use serde_json::Value;
use tempfile::TempDir;

use super::splitlock;

const SOURCES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../split-lock-plugin/tests/programs"
);

/// Whether tests that need an emulator can run; says why if not, and fails where they must.
fn has_emulator(name: &str) -> bool {
    let help = Command::new(name).arg("-help").output();
    let takes_plugins =
        help.is_ok_and(|it| String::from_utf8_lossy(&it.stdout).contains("\n-plugin"));
    let required = std::env::var_os("SPLITLOCK_REQUIRE_QEMU");
    assert!(
        takes_plugins || required.is_none_or(|value| value != "1"),
        "{name} with plugins is required here: install Debian 12's qemu-user and qemu-system-x86"
    );
    if takes_plugins {
        static IS_BUILT: Once = Once::new();
        // The first command builds the plugin and says so, which no test expects.
        IS_BUILT.call_once(|| drop(output(&["--json"], &["true"])));
    } else {
        eprintln!("skipped: there is no {name} that takes plugins (Debian 12 has it)");
    }
    takes_plugins
}

/// Ends a test that needs an emulator where there is none.
macro_rules! needs_emulator {
    () => {
        needs_emulator!("qemu-x86_64")
    };
    ($name:expr) => {
        if !$crate::find::has_emulator($name) {
            return;
        }
    };
}
use needs_emulator;

/// The programs that split locks, compiled once.
struct Programs(TempDir);

impl Programs {
    fn get() -> &'static Self {
        static PROGRAMS: OnceLock<Programs> = OnceLock::new();
        PROGRAMS.get_or_init(|| {
            let all = Self(tempfile::tempdir().unwrap());
            let source = |name: &str| format!("{SOURCES}/{name}");
            let library = all.path("libsites.so");
            let library = library.to_str().unwrap();
            all.tool(
                "cc",
                &[
                    "-g",
                    "-O1",
                    "-fPIC",
                    "-shared",
                    &source("library.c"),
                    "-o",
                    library,
                ],
            );
            let sites = all.path("sites");
            let sites = sites.to_str().unwrap();
            all.tool(
                "cc",
                &[
                    "-g",
                    "-O1",
                    "-pthread",
                    &source("sites.c"),
                    library,
                    "-o",
                    sites,
                ],
            );
            all.tool(
                "cc",
                &[
                    "-g",
                    "-O1",
                    &source("exec.c"),
                    "-o",
                    all.name("exec").as_str(),
                ],
            );
            let unknown = all.path("unknown");
            std::fs::create_dir(&unknown).unwrap();
            let unknown = unknown.join("qemu-x86_64");
            all.tool(
                "cc",
                &[
                    &source("unknown.c"),
                    "-ldl",
                    "-o",
                    unknown.to_str().unwrap(),
                ],
            );
            let options = [
                "-g",
                "-O1",
                "-static",
                &source("exec.c"),
                "-o",
                &all.name("static"),
            ];
            all.tool("cc", &options);
            all.tool(
                "as",
                &["--32", &source("small32.S"), "-o", &all.name("small32.o")],
            );
            all.tool(
                "ld",
                &[
                    "-m",
                    "elf_i386",
                    &all.name("small32.o"),
                    "-o",
                    &all.name("small32"),
                ],
            );
            all.tool("as", &["--32", &source("boot.S"), "-o", "boot.o"]);
            all.tool(
                "ld",
                &[
                    "-m", "elf_i386", "-Ttext", "0x7c00", "boot.o", "-o", "boot.elf",
                ],
            );
            all.tool(
                "objcopy",
                &["-O", "binary", "-j", ".text", "boot.elf", "boot.img"],
            );
            all
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).into_os_string().into_string().unwrap()
    }

    fn tool(&self, tool: &str, arguments: &[&str]) {
        let status = Command::new(tool)
            .args(arguments)
            .current_dir(self.0.path())
            .status();
        assert!(status.unwrap().success(), "{tool} {arguments:?}");
    }
}

fn program(name: &str) -> String {
    Programs::get().name(name)
}

/// Where a text is in one of the programs' sources.
fn line_of(source: &str, part: &str) -> usize {
    let text = std::fs::read_to_string(Path::new(SOURCES).join(source)).unwrap();
    text.lines().position(|line| line.contains(part)).unwrap() + 1
}

fn find(options: &[&str], program: &[&str]) -> Command {
    let mut command = splitlock(&["find"]);
    command.args(options).arg("--").args(program);
    command
}

fn output(options: &[&str], program: &[&str]) -> Output {
    find(options, program).output().unwrap()
}

/// What was found, and the exit code.
fn found(program: &[&str]) -> (Value, Option<i32>) {
    let output = output(&["--json"], program);
    let value = serde_json::from_slice(&output.stdout);
    (
        value.unwrap_or_else(|error| panic!("{error}: {output:?}")),
        output.status.code(),
    )
}

fn sites(found: &Value) -> &[Value] {
    found["sites"].as_array().unwrap()
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[expect(clippy::disallowed_methods, reason = "a test's own file")]
fn script(folder: &Path, name: &str, lines: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(name);
    std::fs::write(&path, lines).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.into_os_string().into_string().unwrap()
}
