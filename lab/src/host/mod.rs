//! The side of the lab that fetches, builds, boots and compares.

use std::slice;

use anyhow::Result;

mod apt;
pub(crate) mod args;
mod cache;
mod compare;
mod cpu;
mod demo;
mod initramfs;
mod kernel;
mod lab;
mod machine;
mod module;
mod output;
mod plans;
mod programs;
mod step;
mod tools;
mod watch;

use args::{Cli, Command, FetchArgs};
use cache::Cache;
use lab::Lab;
use machine::Qemu;
use step::step;

/// Whether everything agreed.
pub(crate) fn run(cli: &Cli) -> Result<bool> {
    match &cli.command {
        Command::Check(args) => cpu::check(args),
        Command::Demo(args) => Lab::open()?.with_each(&args.kernel, "demo", demo::run),
        Command::Fetch(args) => fetch(args),
        Command::Kernel(args) => cpu::build_kernel(args),
        Command::Shell(args) => cpu::shell(args),
        Command::Tools(args) => {
            let series = slice::from_ref(&args.kernel);
            Lab::open()?.with_each(series, "tools", |prepared| tools::run(args, prepared))
        }
        Command::Watch(args) => Lab::open()?.with_each(&args.kernel, "watch", watch::run),
    }
}

fn fetch(args: &FetchArgs) -> Result<bool> {
    let cache = Cache::new();
    let _alone = cache.lock()?;
    step("QEMU", || Qemu::get(&cache))?;
    cpu::fetch(args, &cache)?;
    Ok(true)
}
