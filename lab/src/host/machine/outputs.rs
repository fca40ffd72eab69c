//! What the commands of a script have said, and what the CPU did meanwhile.

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use split_lock_lab::bundle::Bundles;
use split_lock_lab::cpu::journal::Event;

use crate::host::machine::bochs::Outcome;

/// One of the bundles that a machine has sent.
pub(crate) fn bytes<'a>(bundles: &'a Bundles, name: &str) -> Result<&'a [u8]> {
    let bytes = bundles.get(name).map(Vec::as_slice);
    bytes.with_context(|| format!("the machine did not send {name}"))
}

/// What a program in the machine printed, what it complained about, and its exit code.
pub(crate) fn output_of(bundles: &Bundles, name: &str) -> Result<[String; 3]> {
    let text = |part| {
        let bytes = bytes(bundles, &format!("{name}.{part}"))?;
        Ok::<_, anyhow::Error>(String::from_utf8_lossy(bytes).into_owned())
    };
    Ok([text("out")?, text("err")?, text("code")?])
}

/// What is looked at of each row of a sweep's CSV.
pub(crate) fn rows<T: DeserializeOwned>(csv: &str) -> Result<Vec<T>> {
    let mut reader = csv::ReaderBuilder::new()
        .comment(Some(b'#'))
        .from_reader(csv.as_bytes());
    let rows: Result<Vec<T>, _> = reader.deserialize().collect();
    let rows = rows.context("the machine sent no sweep")?;
    ensure!(!rows.is_empty(), "the machine sent an empty sweep");
    Ok(rows)
}

impl Outcome {
    /// What a command printed that ended well.
    pub(crate) fn printed(&self, name: &str) -> Result<String> {
        self.printed_by(name, "0")
    }

    /// What a command printed that ended with this exit code.
    pub(crate) fn printed_by(&self, name: &str, expected_code: &str) -> Result<String> {
        let [out, err, code] = output_of(&self.bundles, name)?;
        ensure!(
            code == expected_code,
            "{name} ended with {code} and not {expected_code} in the machine: {}",
            err.trim()
        );
        Ok(out)
    }

    /// The #ACs while a command ran, in order.
    pub(crate) fn traps_during(&self, name: &str) -> Result<Vec<&Event>> {
        let events = self.events_during(name)?;
        let is_trap = |event: &&Event| event.kind.is_alignment_check();
        Ok(events.into_iter().filter(is_trap).collect())
    }

    /// What the CPU did while a command ran, in order.
    pub(crate) fn events_during(&self, name: &str) -> Result<Vec<&Event>> {
        let ticks = bytes(&self.bundles, &format!("{name}.ticks"))?;
        let ticks = String::from_utf8_lossy(ticks);
        let (begin, end) = ticks.split_once(' ').context("two moments")?;
        let span = begin.parse::<u64>()?..end.parse::<u64>()?;
        let events = self.journal.events.iter();
        Ok(events.filter(|event| span.contains(&event.tick)).collect())
    }
}
