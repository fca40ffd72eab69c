//! The command line of Splitlock: finds, reproduces, explains and survives x86 split-lock stalls.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use clap::error::ErrorKind;

mod args;
mod commands;
mod error;
mod guard_config;
mod interrupt;
mod kernel_choice;
mod measuring;
mod metrics;
mod output;
mod page;
mod picture_file;
mod stdout;
mod terminal;

use args::{Cli, Command};
use error::{error_chain, print_to_stderr};

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Fine,
    /// The problem that was asked for was found.
    Found,
    /// Not enough could be seen to say whether there is a problem.
    CannotSay,
    /// By Ctrl-C, with everything measured so far written.
    Stopped,
}

/// The problem that the user asked to be told about.
const EXIT_FOUND: u8 = 1;
/// Usage and environment errors.
const EXIT_ERROR: u8 = 2;
/// `doctor` could not see enough.
const EXIT_CANNOT_SAY: u8 = 3;
/// What shells report for a program that SIGINT has ended.
const EXIT_STOPPED: u8 = 130;

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Fine => 0,
            Exit::Found => EXIT_FOUND,
            Exit::CannotSay => EXIT_CANNOT_SAY,
            Exit::Stopped => EXIT_STOPPED,
        }
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let result = match &cli.command {
        Command::Reproduce(args) => commands::reproduce::run(args),
        Command::Sweep(args) => commands::sweep::run(args),
        Command::Plot(args) => commands::plot::run(args),
        Command::Explain(args) => commands::explain::run(args),
        Command::Simulate(args) => commands::simulate::run(args),
        Command::Thresholds(args) => commands::thresholds::run(args),
        Command::Policies(args) => commands::policies::run(args),
        Command::Doctor(args) => commands::doctor::run(args),
        Command::Log(args) => commands::log::run(args),
        Command::Demo(args) => commands::demo::run(args),
        Command::Watch(args) => commands::watch::run(args),
        Command::Generate(args) => commands::generate::run(args),
    };
    match result {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    print_to_stderr(&error_chain(error));
    ExitCode::from(EXIT_ERROR)
}

/// Help goes out as it is; a mistake becomes one sentence.
fn usage(error: &clap::Error) -> ExitCode {
    let needs_no_sentence = matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if needs_no_sentence {
        let printed =
            stdout::tolerate_closed_pipe(error.print().and_then(|()| io::stdout().flush()));
        if error.use_stderr() {
            return ExitCode::from(EXIT_ERROR);
        }
        return printed
            .context(stdout::CANNOT_WRITE)
            .map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS);
    }
    let text = error.render().to_string();
    let sentence = text.split("\n\n").next().unwrap_or_default();
    let sentence = sentence.strip_prefix("error: ").unwrap_or(sentence);
    let words: Vec<&str> = sentence.split_whitespace().collect();
    print_to_stderr(&format!("{}; see --help", words.join(" ")));
    ExitCode::from(EXIT_ERROR)
}
