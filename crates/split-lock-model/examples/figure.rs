//! Prints the rows of the figure for a kernel: turns within each pending timeout, with detection
//! off and as the kernel is.
//!
//! `cargo run --release -p split-lock-model --example figure [KERNEL [SPLIT_COST_NS]]`

use std::error::Error;

use split_lock_model::figure::{Curve, Plan};
use split_lock_model::kernel::Profile;
use split_lock_model::time::Nanos;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let kernel: Profile = args
        .next()
        .unwrap_or_else(|| "6.6,hz=1000".to_owned())
        .parse()?;
    let cost = args.next().map_or(Ok(500), |ns| ns.parse())?;
    println!("series,timeout_ns,run,turns,elapsed_ns,cpu_ns");
    for row in Plan::for_guest(Nanos(cost))?.rows(&kernel)? {
        let curve = match row.curve {
            Curve::DetectionOff => "detection off",
            Curve::Warn => "warn",
        };
        println!(
            "modelled ({kernel}) {curve},{},{},{},{},{}",
            row.timeout.0, row.repeat, row.run.turns, row.run.elapsed.0, row.run.cpu.0
        );
    }
    Ok(())
}
