//! How a guest survives its split locks on an emulated host, and what that costs: all in one process,
//! interleaved in random order, so that a noisy machine is noisy for everybody.
//!
//! `cargo bench -p split-lock-repro` takes about six minutes; `-- --quick` takes a tenth, and
//! `-- costs survival crossover progress smp` measures only what is named. `--kernel PROFILE` is the
//! kernel that punishes, 6.12 at 250 Hz if nothing is said.
//!
//! Other work on the machine takes windows from some and sleep from nobody. The last line says how much
//! there was; `echo -19 > /proc/self/autogroup` puts a shell with all that it starts first.

mod breakpoint;
mod column;
#[path = "../../tests/common/mod.rs"]
mod common;
mod costs;
mod crossover;
mod emulation;
mod extent;
mod load;
mod options;
mod progressing;
mod random;
mod rounds;
mod scheme;
mod sheet;
mod smp;
mod subject;
mod survival;
mod table;

use std::process::ExitCode;

use split_lock_assist::kvm::BreakpointSupport;

use crate::options::{Options, Part};
use crate::subject::Machine;

fn main() -> ExitCode {
    let options = match Options::from_arguments() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let Some(kvm) = common::kvm().filter(|_| !common::detects_split_locks()) else {
        return ExitCode::SUCCESS;
    };
    let machine = Machine {
        reach: BreakpointSupport::probe(&kvm).expect("KVM was there a moment ago"),
        kvm,
        kernel: options.kernel.clone(),
    };
    println!("Split locks under {}", machine.kernel);
    for part in &options.parts {
        let measure = match part {
            Part::Costs => costs::measure,
            Part::Survival => survival::measure,
            Part::Crossover => crossover::measure,
            Part::Progress => progressing::measure,
            Part::Smp => smp::measure,
        };
        measure(&machine, &options.extent);
    }
    println!("\n{}", load::text());
    ExitCode::SUCCESS
}
