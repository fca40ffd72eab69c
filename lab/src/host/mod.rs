//! The side of the lab that fetches, builds, boots and compares.

use anyhow::Result;

mod apt;
pub(crate) mod args;
mod cache;
mod cpu;
mod fetch;
mod kernel;
mod machine;
mod output;
mod programs;
mod scenes;
mod shell;
mod step;

use args::{Cli, Command};
use fetch::{build_kernel, fetch};
use scenes::{
    check, cost, demo, faults, find, oops, patch, policies, relieve, selftest, survive, tools,
    watch, windows,
};

/// Whether everything agreed.
pub(crate) fn run(cli: &Cli) -> Result<bool> {
    match &cli.command {
        Command::Check(args) => check::run(args),
        Command::Cost(args) => cost::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Faults(args) => faults::run(args),
        Command::Fetch(args) => fetch(args),
        Command::Find(args) => find::run(args),
        Command::Kernel(args) => build_kernel(args),
        Command::Oops(args) => oops::run(args),
        Command::Patch(args) => patch::run(args),
        Command::Policies(args) => policies::run(args),
        Command::Programs(args) => scenes::programs::run(args),
        Command::Relieve(args) => relieve::run(args),
        Command::Selftest(args) => selftest::run(args),
        Command::Shell(args) => shell::run(args),
        Command::Survive(args) => survive::run(args),
        Command::Tools(args) => tools::run(args),
        Command::Windows(args) => windows::run(args),
        Command::Watch(args) => watch::run(args),
    }
}
