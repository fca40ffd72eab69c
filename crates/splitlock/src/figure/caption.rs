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

/// One line on who measured when.
fn origin_line(from: &Provenance) -> String {
    plain(&format!(
        "{}, begun {}, seed {}",
        from.program, from.started_utc, from.seed
    ))
}

/// One line on what is missing, if the sweep was stopped.
pub(crate) fn stopped_early_line(sweep: &Sweep) -> Option<String> {
    let planned = sweep.provenance.as_ref()?.planned_samples;
    let taken = sweep.samples.len();
    sweep
        .stopped_early()?
        .then(|| format!("Stopped early: {taken} of {planned} planned samples."))
}

/// The lines below a figure: how to read its marks, then where its numbers come from.
pub(super) fn notes(reading: String, sweeps: &[Sweep]) -> Vec<String> {
    let several = sweeps.len() > 1;
    let of_sweep = |(index, sweep): (usize, &Sweep)| {
        let lines = origin(sweep);
        let numbered = move |line| match several {
            true => format!("Sweep {}: {line}", index + 1),
            false => line,
        };
        lines.into_iter().map(numbered).collect::<Vec<_>>()
    };
    let origins = sweeps.iter().enumerate().flat_map(of_sweep);
    std::iter::once(reading).chain(origins).collect()
}

fn origin(sweep: &Sweep) -> Vec<String> {
    let from = sweep.provenance.as_ref();
    let known = from.map(|from| {
        [
            format!("Host: {}.", host_line(&from.host)),
            format!("Measured with {}.", origin_line(from)),
        ]
    });
    let stopped = stopped_early_line(sweep);
    stopped
        .into_iter()
        .chain(known.into_iter().flatten())
        .collect()
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
