//! What a split lock costs, and how much of its work a guest does on a host that punishes them: all in
//! one process and interleaved, so that a noisy machine is noisy for every way of running it.
//!
//! `cargo bench -p split-lock-repro` takes about three minutes; `-- --quick` takes a tenth.
//! `-- --kernel PROFILE` is the kernel that punishes, 6.12 at 250 Hz if nothing is said.
//!
//! Other work on the machine takes windows from some and sleep from nobody. The last line says how much
//! there was; `echo -19 > /proc/self/autogroup` puts a shell with all that it starts first.

#[path = "../../tests/common/mod.rs"]
mod common;
mod costs;
mod rounds;
mod runs;
mod table;

use std::process::ExitCode;
use std::{env, fs};

use split_lock_assist::kvm::BreakpointSupport;

use crate::rounds::Divisor;
use crate::runs::Machine;

const USUAL_KERNEL: &str = "6.12,hz=250";

fn main() -> ExitCode {
    let mut kernel = USUAL_KERNEL.to_owned();
    let (mut is_bench, mut is_quick) = (false, false);
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => is_bench = true,
            "--quick" => is_quick = true,
            "--kernel" => kernel = arguments.next().unwrap_or_default(),
            other => {
                eprintln!("unknown argument `{other}`: use --quick or --kernel PROFILE");
                return ExitCode::from(2);
            }
        }
    }
    // `cargo test --benches` also runs this, to see whether it can; `cargo bench` adds --bench at the end.
    let divisor = Divisor(match (is_bench, is_quick) {
        (_, true) => 4,
        (true, false) => 1,
        (false, false) => 20,
    });
    let kernel = match kernel.parse() {
        Ok(kernel) => kernel,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let Some(kvm) = common::kvm().filter(|_| !common::detects_split_locks()) else {
        return ExitCode::SUCCESS;
    };
    let support = BreakpointSupport::probe(&kvm).expect("KVM was there a moment ago");
    let machine = Machine {
        kvm,
        kernel,
        support,
    };
    println!("Split locks under {}: median (quartiles)", machine.kernel);
    costs::measure(&machine, divisor);
    table::measure(&machine, divisor);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("\nLoad average: {}", load.trim_end());
    ExitCode::SUCCESS
}
