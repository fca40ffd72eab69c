//! What must be said beside the numbers: the host, its detection state, the origin of the table.

use split_lock_repro::results::{HostFacts, Provenance, Sweep};

use crate::text::plain;

/// The detection state of every host, each once. With several hosts, each says which it is.
pub(crate) fn detection_states(sweeps: &[Sweep]) -> Vec<String> {
    let hosts = distinct(
        sweeps
            .iter()
            .filter_map(|sweep| Some(&sweep.provenance.as_ref()?.host)),
    );
    let mut states: Vec<String> = match hosts.as_slice() {
        [only] => vec![plain(&only.detection)],
        several => several
            .iter()
            .map(|host| {
                plain(&format!(
                    "{} ({}, {})",
                    host.detection, host.cpu, host.kernel
                ))
            })
            .collect(),
    };
    if sweeps.iter().any(|sweep| sweep.provenance.is_none()) {
        states.push("split-lock detection: not recorded in the table".into());
    }
    states
}

/// One line on the machine.
fn host_line(host: &HostFacts) -> String {
    let cpus = match host.online_cpus {
        0 => String::new(),
        1 => ", 1 logical CPU".into(),
        n => format!(", {n} logical CPUs"),
    };
    let kind = if host.virtual_machine {
        ", itself a virtual machine"
    } else {
        ""
    };
    plain(&format!("{}{cpus}; kernel {}{kind}", host.cpu, host.kernel))
}

/// Which program, on which day, and what its order of runs depended on.
fn origin_line(from: &Provenance) -> String {
    let day = from.started_utc.split('T').next().unwrap_or_default();
    plain(&format!("{} on {day}, seed {}", from.program, from.seed))
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
    for line_of in [stopped_early_line, known_host, known_origin] {
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

fn known_host(sweep: &Sweep) -> Option<String> {
    let from = sweep.provenance.as_ref()?;
    Some(format!("Host: {}.", host_line(&from.host)))
}

fn known_origin(sweep: &Sweep) -> Option<String> {
    let from = sweep.provenance.as_ref()?;
    Some(format!("Made with {}.", origin_line(from)))
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

fn distinct<'a, T: PartialEq>(items: impl Iterator<Item = &'a T>) -> Vec<&'a T> {
    let mut seen = vec![];
    for item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}
