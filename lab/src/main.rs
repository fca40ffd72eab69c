//! `cargo lab`: fetches kernels and a CPU that detects split locks, and holds the model against what they do.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;

mod host;

use host::args::Cli;

/// The model and a kernel disagree.
const EXIT_MISMATCH: u8 = 1;
/// Something could not be done at all.
const EXIT_ERROR: u8 = 2;

fn main() -> ExitCode {
    match host::run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_MISMATCH),
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::from(EXIT_ERROR)
        }
    }
}
