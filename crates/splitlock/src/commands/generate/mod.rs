//! `splitlock generate`: what packages carry beside the program, from the command line's own description.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Command, CommandFactory, ValueEnum};
use clap_complete::Shell;

use crate::args::Cli;
use crate::args::generate::GenerateArgs;
use crate::exit::Exit;
use crate::output::Output;
use crate::stdout;

mod man;

const PROGRAM: &str = "splitlock";

/// A file, and where it belongs below the folder.
struct Generated {
    path: PathBuf,
    content: Vec<u8>,
}

pub(crate) fn run(args: &GenerateArgs) -> Result<Exit> {
    // Everything is there before the first file is touched.
    let mut files = man::pages(visible())?;
    files.extend(completions(&visible()));
    for Generated { path, content } in &files {
        let path = args.dir.join(path);
        if let Some(folder) = path.parent() {
            let cannot = || format!("cannot make the folder {}", folder.display());
            fs::create_dir_all(folder).with_context(cannot)?;
        }
        Output::prepare(&path)?.write(|out| out.write_all(content))?;
    }
    let count = files.len();
    stdout::print(&format!("{count} files in {}\n", args.dir.display()))?;
    Ok(Exit::Fine)
}

/// The command line without what is hidden, which `clap_complete` would complete.
fn visible() -> Command {
    let all = Cli::command();
    let shown = all
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    Command::new(PROGRAM)
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .about(all.get_about().cloned().unwrap_or_default())
        .after_help(all.get_after_help().cloned().unwrap_or_default())
        .subcommand_required(true)
        .subcommands(shown.cloned())
}

fn completions(command: &Command) -> impl Iterator<Item = Generated> {
    Shell::value_variants().iter().map(|&shell| {
        let (program, mut content) = (command.get_name(), vec![]);
        clap_complete::generate(shell, &mut command.clone(), program, &mut content);
        let name = clap_complete::Generator::file_name(&shell, program);
        Generated {
            path: Path::new("completions").join(name),
            content,
        }
    })
}
