//! Running other programs: what they say is kept for when they fail.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::host::cache::{Cache, workspace};

/// Runs a program to its end. If it fails, the error has the last lines of what it said.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        bail!("{name} failed ({}): {}", output.status, last_words(&said));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program to its end; what it says is added to a file, which the error names.
pub(crate) fn run_logged(command: &mut Command, log: &Path) -> Result<()> {
    let place = || format!("cannot write {}", log.display());
    let mut options = File::options();
    let file = options
        .create(true)
        .append(true)
        .open(log)
        .with_context(place)?;
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdin(Stdio::null())
        .stdout(file.try_clone().with_context(place)?)
        .stderr(file)
        .status()
        .with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        let said = last_words(&fs::read(log)?);
        bail!(
            "{name} failed ({status}): {said}; everything is in {}",
            log.display()
        );
    }
    Ok(())
}

/// The cargo that has started this, in the workspace.
pub(crate) fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(workspace());
    command
}

/// Compiles a program for machines of the lab.
pub(crate) fn compile(program: &Path, options: &[&str], sources: &[PathBuf]) -> Result<()> {
    if let Some(folder) = program.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut compiler = Command::new("cc");
    compiler.args(options).args(sources).arg("-o").arg(program);
    run(&mut compiler).map(drop)
}

/// A library of the workspace, as a release has it.
pub(crate) fn release_library(cache: &Cache, package: &str, file: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--locked", "--release", "--package", package]);
    run(&mut command).with_context(|| format!("cannot build {file}"))?;
    Ok(cache.folder("../release").join(file))
}

/// For make: as many jobs as there are CPUs.
pub(crate) fn jobs() -> String {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    format!("-j{cpus}")
}

/// apt, compilers and make say in one line what is wrong; others in their last ones.
fn last_words(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    // The kernel's configuration puts what it cannot go on without between lines of stars.
    let banner = lines.iter().filter_map(|line| line.strip_prefix("*** "));
    let banner: Vec<&str> = banner.map(str::trim).collect();
    if !banner.is_empty() {
        return banner.join(" ");
    }
    let marks = [
        " error: ",
        ": *** ",
        ": not found",
        "No space left on device",
    ];
    let is_it =
        |line: &&&str| line.starts_with("E: ") || marks.iter().any(|mark| line.contains(mark));
    match lines.iter().find(is_it) {
        Some(line) => (*line).to_owned(),
        None => lines[lines.len().saturating_sub(8)..].join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_error_is_found_among_what_follows_from_it() {
        let said = b"  CC      init/main.o\ninit/main.c:3:1: error: no such thing\n\
            make[2]: *** [scripts/Makefile.build:229: init/main.o] Error 1\n";
        assert_eq!(last_words(said), "init/main.c:3:1: error: no such thing");
        assert_eq!(last_words(b"one\n\ntwo\n"), "one\ntwo");
    }

    #[test]
    fn banner_says_more_than_what_follows_from_it() {
        let said = b"***\n*** C compiler is too old.\n***   Your GCC version:    4.2.0\n***\n\
            make[2]: *** [scripts/kconfig/Makefile:85: allnoconfig] Error 1\n";
        assert_eq!(
            last_words(said),
            "C compiler is too old. Your GCC version:    4.2.0"
        );
    }

    #[test]
    fn failure_names_the_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'x.c:1: error: bad' >&2; exit 3"]);
        let error = run_logged(&mut command, &log).expect_err("it fails");
        let said = error.to_string();
        assert!(said.contains("x.c:1: error: bad"), "{said}");
        assert!(said.contains(&log.display().to_string()), "{said}");
    }
}
