//! The side of the lab that fetches, builds, boots and compares.

use anyhow::Result;

mod apt;
pub(crate) mod args;
mod cache;
mod check;
mod compare;
mod cpu;
mod initramfs;
mod kernel;
mod lab;
mod machine;
mod module;
mod output;
mod plans;
mod programs;
mod step;
mod summary;

use args::{Cli, Command, FetchArgs};
use cache::Cache;
use machine::Qemu;
use step::step;

/// Whether everything agreed.
pub(crate) fn run(cli: &Cli) -> Result<bool> {
    match &cli.command {
        Command::Check(args) => check::run(args),
        Command::Cost(args) => cpu::cost(args),
        Command::Cpu(args) => cpu::check(args),
        Command::Demo(args) => cpu::demo(args),
        Command::Faults(args) => cpu::faults(args),
        Command::Fetch(args) => fetch(args),
        Command::Kernel(args) => cpu::build_kernel(args),
        Command::Shell(args) => cpu::shell(args),
        Command::Tools(args) => cpu::tools(args),
        Command::Windows(args) => cpu::windows(args),
        Command::Watch(args) => cpu::watch(args),
    }
}

fn fetch(args: &FetchArgs) -> Result<bool> {
    let cache = Cache::new();
    let _alone = cache.lock()?;
    step("QEMU", || Qemu::get(&cache))?;
    cpu::fetch(args, &cache)?;
    Ok(true)
}
