//! What must be said beside the numbers: the host, its detection state, the origin of the table.

use std::collections::BTreeSet;

use split_lock_repro::results::{HostFacts, Sweep};

use crate::text::plain;

/// The detection state of every host, each once. With several machines or kernels, each says which it is.
pub(crate) fn detection_states<'a>(sweeps: impl IntoIterator<Item = &'a Sweep>) -> Vec<String> {
    let mut hosts: Vec<&HostFacts> = vec![];
    let mut is_unknown = false;
    for sweep in sweeps {
        match &sweep.provenance {
            Some(from) if !hosts.contains(&&from.host) => hosts.push(&from.host),
            Some(_) => {}
            None => is_unknown = true,
        }
    }
    let machines: BTreeSet<_> = hosts.iter().map(|host| (&host.cpu, &host.kernel)).collect();
    let state = |host: &&HostFacts| match machines.len() {
        1 => plain(&host.detection),
        _ => plain(&format!(
            "{} ({}, {})",
            host.detection, host.cpu, host.kernel
        )),
    };
    let mut states: Vec<String> = hosts.iter().map(state).collect();
    if is_unknown {
        states.push("split-lock detection: not recorded in the table".into());
    }
    states
}

/// One line on what is missing, if the sweep was stopped.
pub(crate) fn stopped_early_line(sweep: &Sweep) -> Option<String> {
    let planned = sweep.provenance.as_ref()?.planned_samples;
    let taken = sweep.samples.len();
    sweep
        .stopped_early()?
        .then(|| format!("Stopped early: {taken} of {planned} planned samples."))
}

/// The lines below a figure: how to read its marks, then where its numbers come from. What all
/// sweeps have in common is said once.
pub(super) fn notes(reading: String, sweeps: &[Sweep]) -> Vec<String> {
    let mut lines = vec![reading];
    for line_of in [stopped_early_line, host_line, origin_line] {
        let of_sweeps: Vec<Option<String>> = sweeps.iter().map(line_of).collect();
        match of_sweeps.as_slice() {
            [Some(first), others @ ..]
                if others.iter().all(|line| line.as_ref() == Some(first)) =>
            {
                lines.push(first.clone());
            }
            several => lines.extend(several.iter().enumerate().filter_map(|(index, line)| {
                let line = line.as_ref()?;
                Some(format!("Sweep {}: {line}", index + 1))
            })),
        }
    }
    lines
}

fn host_line(sweep: &Sweep) -> Option<String> {
    let host = &sweep.provenance.as_ref()?.host;
    let cpus = match host.online_cpus {
        0 => String::new(),
        1 => ", 1 logical CPU".into(),
        n => format!(", {n} logical CPUs"),
    };
    let kind = match host.virtual_machine {
        true => ", itself a virtual machine",
        false => "",
    };
    let (cpu, kernel) = (&host.cpu, &host.kernel);
    Some(plain(&format!("Host: {cpu}{cpus}; kernel {kernel}{kind}.")))
}

/// Which program, on which day, and what its order of runs depended on.
fn origin_line(sweep: &Sweep) -> Option<String> {
    let from = sweep.provenance.as_ref()?;
    let day = from.started_utc.split('T').next().unwrap_or_default();
    let (program, seed) = (&from.program, from.seed);
    Some(plain(&format!(
        "Made with {program} on {day}, seed {seed}."
    )))
}

/// How many runs stand behind each mark.
pub(super) fn runs(counts: impl Iterator<Item = usize> + Clone) -> String {
    match (counts.clone().min(), counts.max()) {
        (Some(1), Some(1)) => "1 run".into(),
        (Some(least), Some(most)) if least == most => format!("{most} runs"),
        (Some(least), Some(most)) => format!("{least} to {most} runs"),
        _ => "no runs".into(),
    }
}
