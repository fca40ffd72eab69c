//! `splitlock run`: starts a program with the library, and stays its parent.

mod library;
mod program;
mod reports;
mod signals;

use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::{env, fs};

use anyhow::{Context, Result};

use crate::args::run::RunArgs;
use crate::error::print_note;
use crate::exit::Exit;
use crate::output::Output;
use program::Program;
use reports::Summary;
use signals::Signals;

pub(crate) fn run(args: &RunArgs) -> Result<Exit> {
    let (name, arguments) = args.program.split_first().context("no program was named")?;
    let stats = args.stats.as_deref().map(Output::prepare).transpose()?;
    let program = Program::find(name)?;
    // What is to be read by a program has nothing else around it.
    let has_notes = !args.quiet && !args.json;
    let library = library::find(has_notes)?;
    let folder = Folder::new()?;
    let preload = library::preload(&library, &folder.0.join("libsplit_lock_preload.so"))?;
    library::try_loading(&program, &library, &preload)?;

    let signals = Signals::catch()?;
    let mut command = Command::new(&program.path);
    command
        .args(arguments)
        .env("LD_PRELOAD", preload)
        .env("SPLITLOCK_RUN_GUARD", args.guard.name())
        .env("SPLITLOCK_RUN_REPORTS", &folder.0);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {}", program.path.display()))?;
    // Not the folder itself, which is removed at the end of this function; that thread has none.
    let (path, json) = (folder.0.clone(), args.json);
    signals.pass_on(child.id(), move || {
        print(&Summary::new(reports::read(&path)), json);
    })?;
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for {}", program.path.display()))?;

    let processes = reports::read(&folder.0);
    let left_behind = processes.iter().filter(|_| has_notes);
    for pid in left_behind.filter_map(reports::Process::still_runs) {
        print_note(&format!(
            "process {pid} runs on with the library; what is done for it from now on is not told"
        ));
    }
    let summary = Summary::new(processes);
    if !args.quiet {
        print(&summary, args.json);
    }
    if let Some(stats) = stats {
        let text = serde_json::to_string_pretty(&summary).context("cannot write the numbers")?;
        stats.write(|out| writeln!(out, "{text}"))?;
    }
    Ok(Exit::OfProgram(code(status)))
}

/// As shells have it.
fn code(status: ExitStatus) -> u8 {
    let signal = || status.signal().map_or(0, |signal| 128 + signal);
    u8::try_from(status.code().unwrap_or_else(signal)).unwrap_or(u8::MAX)
}

/// On standard error, because the other one is the program's. Whoever does not want to read it has closed it.
fn print(summary: &Summary, json: bool) {
    let text = if json {
        serde_json::to_string(summary).unwrap_or_default() + "\n"
    } else {
        let text = summary.text();
        let lines = text.lines().map(|line| format!("splitlock: {line}\n"));
        lines.collect()
    };
    let text = split_lock_report::text::plain_lines(&text);
    let _closed = io::stderr().write_all(text.as_bytes());
}

/// A folder for reports. Removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let parent = env::temp_dir();
        Self::in_folder(&parent)
            .with_context(|| format!("cannot make a folder in {}", parent.display()))
    }

    fn in_folder(parent: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let pid = std::process::id();
        let mut attempts = (0..100).map(|n| parent.join(format!("splitlock-run-{pid}-{n}")));
        // Nobody else's: it must not be there yet.
        let made =
            attempts.find_map(
                |path| match fs::DirBuilder::new().mode(0o700).create(&path) {
                    Ok(()) => Some(Ok(path)),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
                    Err(error) => Some(Err(error)),
                },
            );
        made.unwrap_or_else(|| Err(io::ErrorKind::AlreadyExists.into()))
            .map(Self)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _left_behind = fs::remove_dir_all(&self.0);
    }
}
