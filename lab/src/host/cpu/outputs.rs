//! What the commands of a script have said, and what the CPU did meanwhile.

use anyhow::{Context, Result, ensure};
use split_lock_lab::cpu::journal::Event;

use super::machine::Outcome;
use crate::host::bundles::{bytes, output_of};

impl Outcome {
    /// What a command printed that ended well.
    pub(super) fn printed(&self, name: &str) -> Result<String> {
        self.printed_by(name, "0")
    }

    /// What a command printed that ended with this exit code.
    pub(super) fn printed_by(&self, name: &str, expected_code: &str) -> Result<String> {
        let [out, err, code] = output_of(&self.bundles, name)?;
        ensure!(
            code == expected_code,
            "{name} ended with {code} and not {expected_code} in the machine: {}",
            err.trim()
        );
        Ok(out)
    }

    /// The #ACs while a command ran, in order.
    pub(super) fn traps_during(&self, name: &str) -> Result<Vec<&Event>> {
        let ticks = bytes(&self.bundles, &format!("{name}.ticks"))?;
        let ticks = String::from_utf8_lossy(ticks);
        let (begin, end) = ticks.split_once(' ').context("two moments")?;
        let span = begin.parse::<u64>()?..end.parse::<u64>()?;
        let traps = self.journal.alignment_checks();
        Ok(traps.filter(|trap| span.contains(&trap.tick)).collect())
    }
}
