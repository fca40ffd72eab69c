//! Prints what each alternative to the kernel's behaviour gives and takes, as a Markdown table.
//!
//! `cargo run --release -p split-lock-model --example policies [KERNEL]`

use std::error::Error;

use split_lock_model::kernel::Profile;
use split_lock_model::policy::{Alternative, Comparison, markdown};

fn main() -> Result<(), Box<dyn Error>> {
    let kernel = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "6.15,hz=250".to_owned());
    let kernel: Profile = kernel.parse()?;
    let comparison = Comparison::default();
    let assessments: Result<Vec<_>, _> = Alternative::ALL
        .iter()
        .map(|&policy| comparison.assess(policy, &kernel))
        .collect();
    print!("{}", markdown(&assessments?));
    Ok(())
}
