//! What a sweep measured, as data: the samples, and enough about their origin to judge them by.
//!
//! The same [`Sweep`] is written as CSV ([`Sweep::write_csv`]), for every tool that reads tables,
//! and as JSON ([`Sweep::write_json`]). Both carry the schema version, the host's facts, the seed
//! and the exact command, and both can be read back.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cpu::Cpu;

mod bounded_lines;
mod json;
mod read_csv;
mod write_csv;

pub use json::ReadJsonError;
pub use read_csv::ReadCsvError;
pub use write_csv::CSV_COLUMNS;

/// Names the kind of file.
pub const SCHEMA: &str = "splitlock-sweep";

/// Rises whenever a column or key changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;

/// Every run of one sweep and, where it is known, where they come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// `None` for a table that carries no origin, such as one that another tool has rewritten.
    pub provenance: Option<Provenance>,
    /// One per run and vCPU, in the order in which they were measured.
    pub samples: Vec<Sample>,
}

/// Where a sweep's numbers come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Name and version of the program that measured.
    pub program: String,
    /// The command as it was given, argument by argument.
    pub command: Vec<String>,
    /// Seed of the random order of the runs: the same seed gives the same order.
    pub seed: u64,
    /// When the sweep began: UTC, RFC 3339.
    pub started_utc: String,
    /// How many samples the sweep was going to have. It was stopped early if it has fewer.
    pub planned_samples: u64,
    /// The machine.
    pub host: HostFacts,
    /// For each privilege level at which a guest worked between its split locks: how many turns of
    /// its work loop were taken for a second of work.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub work_turns_per_second: BTreeMap<String, u64>,
}

/// The machine, as far as it matters to a split lock. "unknown" where it could not be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Model name of the CPU.
    pub cpu: String,
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// Online logical CPUs; 0 if unknown.
    pub online_cpus: u32,
    /// One sentence on the host's split-lock detection, such as "split-lock detection: not
    /// supported by this CPU".
    pub detection: String,
    /// Whether this host is itself a virtual machine.
    pub virtual_machine: bool,
}

/// One vCPU's share of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// How the number was obtained and under what condition; see [`Origin`]. Samples with the same
    /// series, guest, host and vCPU make up one curve.
    pub series: String,
    /// The guest's name, with the operand's offset if that was chosen: `split`, `split@57`; or a program, with its timer:
    /// `program:itimer-real`.
    pub guest: String,
    /// A host as it is, by its CPU's name ([`Cpu::name`]), or the kernel profile that the trap or the model
    /// followed.
    pub host: String,
    /// Which of the vCPUs that ran at once.
    pub vcpu: u32,
    /// The pending timeout: how long the vCPU was allowed to run, in nanoseconds. Of a program: the period of its timer.
    pub timeout_ns: u64,
    /// Which repetition, from 0.
    pub run: u32,
    /// How often the guest got round its loop.
    pub turns: u64,
    /// Time from just before the run to just after it, in nanoseconds of CLOCK_MONOTONIC.
    pub elapsed_ns: u64,
    /// CPU time that the vCPU's thread used meanwhile, in nanoseconds.
    pub cpu_ns: u64,
    /// Guest exits that the run handled on its way. Of a program: signals of its timer.
    pub exits: u64,
    /// How the run ended.
    pub outcome: Outcome,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Outcome {
    /// The timeout expired while the guest ran.
    Expired,
}

/// How a series was obtained. Its `Display` form begins every `series` column.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Measured.
    Measured {
        /// On this CPU.
        cpu: Cpu,
        /// With split locks trapped and punished as this kernel profile does; `None` on a host as it is.
        trap: Option<String>,
    },
    /// Computed from the rules of this kernel profile.
    Modelled(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cpu, trap) = match self {
            Origin::Measured { cpu, trap } => (cpu, trap),
            Origin::Modelled(kernel) => return write!(f, "modelled ({kernel})"),
        };
        match (cpu, trap) {
            (_, None) => write!(f, "measured ({})", cpu.name()),
            (Cpu::Hardware, Some(kernel)) => write!(f, "measured (trap emulated: {kernel})"),
            (Cpu::Software, Some(kernel)) => {
                write!(f, "measured ({}; trap emulated: {kernel})", cpu.name())
            }
        }
    }
}

impl Sweep {
    /// Whether the sweep was stopped before all planned samples were taken; `None` if unknown.
    #[must_use]
    pub fn stopped_early(&self) -> Option<bool> {
        let provenance = self.provenance.as_ref()?;
        Some((self.samples.len() as u64) < provenance.planned_samples)
    }
}

#[cfg(test)]
pub(crate) mod fixtures {
    use super::*;

    pub(crate) fn sample(guest: &str, timeout_ms: u64, run: u32, turns: u64) -> Sample {
        Sample {
            series: "measured (native)".into(),
            guest: guest.into(),
            host: "native".into(),
            vcpu: 0,
            timeout_ns: timeout_ms * 1_000_000,
            run,
            turns,
            elapsed_ns: timeout_ms * 1_000_000 + 20_000,
            cpu_ns: timeout_ms * 1_000_000,
            exits: 0,
            outcome: Outcome::Expired,
        }
    }

    pub(crate) fn sweep() -> Sweep {
        Sweep {
            provenance: Some(Provenance {
                program: "splitlock 0.1.0".into(),
                command: ["splitlock", "sweep", "--guest", "a, \"quoted\"\nguest"]
                    .map(String::from)
                    .to_vec(),
                seed: 7,
                started_utc: "2026-11-22T10:00:00Z".into(),
                planned_samples: 2,
                host: HostFacts {
                    cpu: "Example CPU".into(),
                    kernel: "6.12.0".into(),
                    online_cpus: 2,
                    detection: "split-lock detection: not supported by this CPU".into(),
                    virtual_machine: false,
                },
                work_turns_per_second: [("cpl3".into(), 1_040_000_000)].into(),
            }),
            samples: vec![sample("split", 1, 0, 850), sample("split", 2, 0, 1700)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_undisturbed_series_of_hardware_is_called_native() {
        let measured = |cpu, trap: Option<&str>| {
            let trap = trap.map(String::from);
            Origin::Measured { cpu, trap }.to_string()
        };
        assert_eq!(measured(Cpu::Hardware, None), "measured (native)");
        assert_eq!(measured(Cpu::Software, None), "measured (CPU emulated)");
        assert_eq!(
            measured(Cpu::Hardware, Some("6.6")),
            "measured (trap emulated: 6.6)"
        );
        assert_eq!(
            measured(Cpu::Software, Some("6.6")),
            "measured (CPU emulated; trap emulated: 6.6)"
        );
        assert_eq!(Origin::Modelled("6.6".into()).to_string(), "modelled (6.6)");
    }
}
