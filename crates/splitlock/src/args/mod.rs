//! The command line as it is written: names, defaults and help. What it means is worked out by the
//! commands.

use clap::{Parser, Subcommand};

pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod find;
pub(crate) mod generate;
mod host;
pub(crate) mod log;
pub(crate) mod measure;
pub(crate) mod model;
pub(crate) mod run;
mod values;
pub(crate) mod watch;

pub(crate) use host::Host;

use demo::DemoArgs;
use doctor::DoctorArgs;
use explain::ExplainArgs;
use find::FindArgs;
use generate::GenerateArgs;
use log::LogArgs;
use measure::{PlotArgs, ReproduceArgs, SweepArgs};
use model::{PoliciesArgs, SimulateArgs, ThresholdsArgs};
use run::RunArgs;
use watch::WatchArgs;

/// Find, reproduce, explain and survive x86 split-lock stalls on Linux.
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    after_help = "Examples:\n  \
                  sudo splitlock doctor\n  \
                  splitlock run -- qemu-system-x86_64 -enable-kvm disk.img\n  \
                  splitlock find -- ./program\n\n\
                  Exit codes: 0 fine, 1 found the problem that was asked for, 2 usage or environment \
                  error, 3 could not see enough to say (doctor), 130 stopped by Ctrl-C with everything \
                  measured so far written."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Doctor(DoctorArgs),
    Log(LogArgs),
    Explain(ExplainArgs),
    Find(FindArgs),
    Run(RunArgs),
    Watch(WatchArgs),
    Reproduce(ReproduceArgs),
    Sweep(SweepArgs),
    Plot(PlotArgs),
    Simulate(SimulateArgs),
    Thresholds(ThresholdsArgs),
    Policies(PoliciesArgs),
    Demo(DemoArgs),
    Generate(GenerateArgs),
}
