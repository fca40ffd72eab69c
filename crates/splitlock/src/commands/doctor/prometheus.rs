//! Metrics for node_exporter's textfile collector. Their names and labels are an interface: docs/doctor.md.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use split_lock_host::{AttributedTraps, Cost, Diagnosis, Facts};
use split_lock_model::time::Nanos;
use split_lock_report::text::plain;

use super::attribution::exception;
use crate::metrics::Metrics;

pub(super) fn of(diagnosis: &Diagnosis) -> String {
    let mut metrics = Metrics::default();
    let verdict = &diagnosis.verdict;
    let labels = [
        ("condition", verdict.condition.name()),
        ("basis", verdict.basis.name()),
    ];
    let help = "What may become of whoever splits a lock on this host";
    metrics.gauge("verdict_info", help).value(&labels, 1.0);
    let help = "0 not affected, 1 affected or can be, 3 could not see enough to say";
    let code = f64::from(super::exit(verdict.answer()).code());
    metrics.gauge("verdict_exit_code", help).value(&[], code);
    let help = "Whether the kernel's log could be read";
    let is_readable = verdict.is_history_known.into();
    metrics.gauge("log_readable", help).value(&[], is_readable);
    of_settings(&diagnosis.facts, &mut metrics);
    of_cost(diagnosis, &mut metrics);
    of_history(diagnosis, &mut metrics);
    of_who(diagnosis, &mut metrics);
    metrics.into_text()
}

fn of_settings(facts: &Facts, metrics: &mut Metrics) {
    metrics.gauge("cpu_flag", "Whether the CPU has the flag");
    for flag in ["split_lock_detect", "bus_lock_detect"] {
        if let Some(has_flag) = facts.has_cpu_flag(flag) {
            metrics.value(&[("flag", flag)], has_flag.into());
        }
    }
    let mitigate = facts.split_lock_mitigate.known();
    if let Some(value) = mitigate.and_then(|value| value.parse().ok()) {
        let help = "kernel.split_lock_mitigate, where it exists";
        let metric = metrics.gauge("sysctl_split_lock_mitigate", help);
        metric.value(&[], value);
    }
}

/// In seconds, from the model.
fn of_cost(diagnosis: &Diagnosis, metrics: &mut Metrics) {
    let (sleep, limits) = match &diagnosis.verdict.cost {
        None => return,
        Some(Cost::RateLimited { sleep, .. }) => (sleep, None),
        Some(Cost::Trap {
            sleep,
            never_up_to,
            always_from,
            ..
        }) => (sleep, Some((never_up_to, always_from))),
    };
    let seconds = |nanos: Nanos| nanos.0 as f64 / 1e9;
    let help = "How long one trap makes a thread sleep at least and at most, by the model";
    metrics
        .gauge("sleep_seconds", help)
        .value(&[("bound", "min")], seconds(sleep.longer_than))
        .value(&[("bound", "max")], seconds(sleep.at_most));
    if let Some((never_up_to, always_from)) = limits {
        let help = "A thread with signals this far apart, or less, never gets past a split lock, by the model";
        let metric = metrics.gauge("livelock_up_to_seconds", help);
        metric.value(&[], seconds(*never_up_to));
        let help =
            "A thread with signals this far apart, or more, gets past a split lock, by the model";
        let metric = metrics.gauge("progress_from_seconds", help);
        metric.value(&[], seconds(*always_from));
    }
}

fn of_history(diagnosis: &Diagnosis, metrics: &mut Metrics) {
    let Some(events) = diagnosis.history.known() else {
        return;
    };
    let help = "Traps in the kernel's log since it started, as far as it was printed and goes back";
    metrics
        .gauge("logged_traps", help)
        .value(&[("exception", "AC")], events.alignment_checks as f64)
        .value(&[("exception", "DB")], events.debug_exceptions as f64);
    let help = "Messages about traps that the kernel did not print, by its own count";
    let metric = metrics.gauge("suppressed_messages", help);
    metric.value(&[], events.suppressed as f64);
    let help = "Whether the log goes back to the kernel's start";
    let metric = metrics.gauge("log_complete", help);
    metric.value(&[], events.begins_at_boot.into());
}

/// A label of every program would be too many series.
const MOST_PROGRAMS: usize = 20;

fn of_who(diagnosis: &Diagnosis, metrics: &mut Metrics) {
    let mut programs: Vec<(String, &'static str, u64)> = vec![];
    for AttributedTraps { group, .. } in &diagnosis.attribution.groups {
        let name = plain(&String::from_utf8_lossy(&group.program.name));
        let exception = exception(group.kind);
        let mut known = programs.iter_mut();
        match known.find(|(program, by, _)| *program == name && *by == exception) {
            Some((.., traps)) => *traps += group.traps,
            None => programs.push((name, exception, group.traps)),
        }
    }
    programs.sort_by_key(|(.., traps)| Reverse(*traps));
    let help = "Traps in the kernel's log, by program, of the programs with most";
    metrics.gauge("program_logged_traps", help);
    for (program, exception, traps) in programs.iter().take(MOST_PROGRAMS) {
        let labels = [("program", &program[..]), ("exception", exception)];
        metrics.value(&labels, *traps as f64);
    }
    let machines = diagnosis.attribution.machines.machines.len() as f64;
    let help = "Virtual machines that were found";
    metrics.gauge("virtual_machines", help).value(&[], machines);
    if let Some(timers) = &diagnosis.attribution.timers {
        let pids: BTreeSet<_> = timers.suspects.iter().map(|suspect| suspect.pid).collect();
        let help = "Virtual machines that a timer may keep from getting past a split lock";
        let metric = metrics.gauge("suspect_virtual_machines", help);
        metric.value(&[], pids.len() as f64);
    }
}
