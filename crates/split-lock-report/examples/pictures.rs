//! Leaves pictures of modelled sweeps in a folder, to be looked at:
//! `cargo run -p split-lock-report --example pictures -- FOLDER`.
#![expect(
    clippy::disallowed_methods,
    reason = "pictures for people, not results"
)]

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use split_lock_report::figure::Figure;
use split_lock_report::modelled::{self, HardwareCosts};
use split_lock_repro::results::Sweep;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("which folder?")?;
    let folder = PathBuf::from(folder);
    std::fs::create_dir_all(&folder)?;
    let timeouts: Vec<_> = (1..=49).map(Duration::from_millis).collect();
    for kernel in ["6.12,hz=250", "6.12,hz=1000", "5.15,hz=250"] {
        let samples =
            modelled::sweep(&kernel.parse()?, &timeouts, 10, 1, HardwareCosts::default())?;
        let sweep = Sweep {
            provenance: None,
            samples,
        };
        let picture = Figure::for_sweeps(&[sweep])?.picture();
        std::fs::write(folder.join(format!("{kernel}.svg")), picture.svg()?)?;
        std::fs::write(folder.join(format!("{kernel}.png")), picture.png(1600)?)?;
    }
    Ok(())
}
