//! What was asked for.

use std::env;

use split_lock_model::kernel::Profile;

use crate::extent::Extent;

const USUAL_KERNEL: &str = "6.12,hz=250";

pub(crate) struct Options {
    pub(crate) kernel: Profile,
    pub(crate) extent: Extent,
    pub(crate) parts: Vec<Part>,
}

/// A part that can be had alone.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    Costs,
    Survival,
    Crossover,
    Progress,
    Smp,
}

const PARTS: [(&str, Part); 5] = [
    ("costs", Part::Costs),
    ("survival", Part::Survival),
    ("crossover", Part::Crossover),
    ("progress", Part::Progress),
    ("smp", Part::Smp),
];

impl Options {
    pub(crate) fn from_arguments() -> Result<Self, String> {
        let mut kernel = USUAL_KERNEL.to_owned();
        // `cargo test --benches` also runs this, to see whether it can; `cargo bench` passes --bench.
        let mut extent = Extent::NONE;
        let mut parts = vec![];
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => extent = Extent::FULL,
                "--quick" => extent = Extent::QUICK,
                "--kernel" => kernel = arguments.next().unwrap_or_default(),
                name => parts.push(part(name)?),
            }
        }
        if parts.is_empty() {
            parts = PARTS.map(|(_, part)| part).to_vec();
        }
        Ok(Self {
            kernel: kernel.parse().map_err(|error| format!("{error}"))?,
            extent,
            parts,
        })
    }
}

fn part(name: &str) -> Result<Part, String> {
    let found = PARTS.iter().find(|(known, _)| *known == name);
    let known = PARTS.map(|(name, _)| name).join(", ");
    found.map(|(_, part)| *part).ok_or_else(|| {
        format!("`{name}` cannot be measured: use --quick, --kernel PROFILE, or any of {known}")
    })
}
