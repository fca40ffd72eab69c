//! What came of it, for programs. The fields are described in docs/demo.md.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use split_lock_host::Detection;
use split_lock_repro::linux::{Ending, LoggedComplaint, SPLIT_LOCKS, Stage};

use super::report::Report;
use crate::args::demo::LinuxArgs;
use crate::stdout;

pub(super) fn of(args: &LinuxArgs, detection: &Detection, report: &Report) -> Result<String> {
    // Times of complaints are since the split locks began.
    let began = report.began().unwrap_or_default();
    let complaint = |heard: &LoggedComplaint| {
        json!({
            "kind": heard.complaint,
            "after_ns": ns(heard.at.saturating_sub(began)),
            "line": heard.line,
        })
    };
    let complaints: Vec<Value> = report.session.complaints().iter().map(complaint).collect();
    let took = match report.session.stage() {
        Stage::Done { since, at } => Some(at - since),
        _ => None,
    };
    let counts = report.guest.counts();
    stdout::json(&json!({
        "schema": "splitlock-demo",
        "schema_version": 1,
        "durations_in": "ns",
        "host_detection": detection.to_string(),
        "guest": report.guest.release(),
        "quantum_ns": ns(args.quantum),
        "guard": args.guard.to_string(),
        "ending": name(report.ending),
        "hung": report.hung(),
        "split_locks": SPLIT_LOCKS,
        "split_locks_done": report.split_locks_done(),
        "began_ns": report.began().map(ns),
        "took_ns": took.map(ns),
        "complaints": complaints,
        "more_complaints": report.session.more_complaints(),
        "runs": counts.runs,
        "exits": counts.exits,
        "runs_without_progress": counts.runs_without_progress,
        "stood": counts.longest_stall.as_ref().map(|stall| json!({
            "at": stall.instruction.to_string(),
            "time_ns": ns(stall.time),
        })),
        "guard_did": report.guest.statistics().map(|did| json!({
            "stalls": did.stalls,
            "emulated_at_stalls": did.emulated_at_stalls,
            "emulated_at_breakpoints": did.emulated_at_breakpoints,
            "graces": did.graces,
            "left_to_cpu": did.left_to_cpu,
        })),
    }))
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn name(ending: Ending) -> &'static str {
    match ending {
        Ending::Done => "done",
        Ending::TimeIsOver => "time-is-over",
        Ending::Panicked => "panicked",
        Ending::PoweredOff => "powered-off",
        Ending::Restarted => "restarted",
        // Errors, of which there is no report.
        Ending::NoOutput | Ending::NoPrompt | Ending::NotStarted => "not-begun",
    }
}
