//! `splitlock run`: starts a program with the library, and stays its parent.

mod preload;
mod program;
mod reports;

use std::io::{self, Write};
use std::process::Command;

use anyhow::{Context, Result};

use crate::args::run::RunArgs;
use crate::child::{PrivateFolder, Signals, Users};
use crate::error::print_note;
use crate::exit::Exit;
use crate::output::Output;
use preload::LIBRARY;
use program::Program;
use reports::Summary;

pub(crate) fn run(args: &RunArgs) -> Result<Exit> {
    let (name, arguments) = args.program.split_first().context("no program was named")?;
    let stats = args.stats.as_deref().map(Output::prepare).transpose()?;
    let program = Program::find(name)?;
    // What is to be read by a program has nothing else around it.
    let has_notes = !args.quiet && !args.json;
    let library = LIBRARY.find(has_notes)?;
    let folder = PrivateFolder::new(Users::Own)?;
    let preload = preload::preload(&library, &folder.path().join(LIBRARY.file))?;
    preload::try_loading(&program, &library, &preload)?;

    let signals = Signals::catch()?;
    let mut command = Command::new(&program.path);
    command
        .args(arguments)
        .env("LD_PRELOAD", preload)
        .env("SPLITLOCK_RUN_GUARD", args.guard.name())
        .env("SPLITLOCK_RUN_REPORTS", folder.path());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {}", program.path.display()))?;
    // Not the folder itself, which is removed at the end of this function; that thread has none.
    let (path, json) = (folder.path().to_owned(), args.json);
    signals.pass_on(child.id(), move || {
        print(&Summary::new(reports::read(&path)), json);
    })?;
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for {}", program.path.display()))?;

    let processes = reports::read(folder.path());
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
    Ok(Exit::of_program(status))
}

/// On standard error, because the other one is the program's. Whoever does not want to read it has closed it.
fn print(summary: &Summary, json: bool) {
    let marked = |line| format!("splitlock: {line}\n");
    let text = match json {
        true => serde_json::to_string(summary).unwrap_or_default() + "\n",
        false => summary.text().lines().map(marked).collect(),
    };
    let text = split_lock_report::text::plain_lines(&text);
    let _closed = io::stderr().write_all(text.as_bytes());
}
