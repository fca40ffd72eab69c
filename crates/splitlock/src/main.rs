//! The command line of Splitlock: finds, reproduces, explains and survives x86 split-lock stalls.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use clap::error::ErrorKind;

mod args;
mod child;
mod commands;
mod error;
mod exit;
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
use exit::EXIT_ERROR;

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
        Command::Find(args) => commands::find::run(args),
        Command::Run(args) => commands::run::run(args),
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
