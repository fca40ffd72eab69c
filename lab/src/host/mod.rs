//! The side of the lab that fetches, builds, boots and compares.

use anyhow::Result;

mod apt;
pub(crate) mod args;
mod cache;
mod compare;
mod demo;
mod initramfs;
mod kernel;
mod lab;
mod machine;
mod module;
mod output;
mod plans;
mod programs;
mod run;
mod step;
mod summary;
mod tools;
mod watch;

use args::{Cli, Command};

/// Whether everything agreed.
pub(crate) fn run(cli: &Cli) -> Result<bool> {
    match &cli.command {
        Command::Check(args) => run::check(args),
        Command::Demo(args) => run::run_demo(args),
        Command::Fetch(args) => run::fetch(args),
        Command::Tools(args) => run::run_tools(args),
        Command::Watch(args) => run::run_watch(args),
    }
}
