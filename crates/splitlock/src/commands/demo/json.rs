//! What came of it, for programs. The fields are described in docs/demo.md.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use split_lock_host::Detection;
use split_lock_repro::linux::{Complaint, Ending, SPLIT_LOCKS, Stage};

use super::report::Report;
use crate::args::demo::LinuxArgs;

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    schema_version: u32,
    durations_in: &'static str,
    host_detection: String,
    guest: String,
    quantum_ns: u64,
    guard: String,
    ending: &'static str,
    hung: bool,
    split_locks: u32,
    split_locks_done: u32,
    began_ns: Option<u64>,
    took_ns: Option<u64>,
    complaints: Vec<Complained>,
    more_complaints: u64,
    runs: u64,
    exits: u64,
    runs_without_progress: u64,
    stood: Option<Stood>,
    guard_did: Option<GuardDid>,
}

/// Times are since the split locks began.
#[derive(Serialize)]
struct Complained {
    kind: Complaint,
    after_ns: u64,
    line: String,
}

#[derive(Serialize)]
struct Stood {
    at: String,
    time_ns: u64,
}

#[derive(Serialize)]
struct GuardDid {
    stalls: u64,
    emulated_at_stalls: u64,
    emulated_at_breakpoints: u64,
    graces: u64,
    left_to_cpu: u64,
}

pub(super) fn of(args: &LinuxArgs, detection: &Detection, report: &Report) -> Result<String> {
    let began = report.began().unwrap_or_default();
    let complaints = report.complaints.iter().map(|heard| Complained {
        kind: heard.complaint,
        after_ns: ns(heard.at.saturating_sub(began)),
        line: heard.line.clone(),
    });
    let document = Document {
        schema: "splitlock-demo",
        schema_version: 1,
        durations_in: "ns",
        host_detection: detection.to_string(),
        guest: report.release.clone(),
        quantum_ns: ns(args.quantum),
        guard: args.guard.to_string(),
        ending: name(report.ending),
        hung: report.hung(),
        split_locks: SPLIT_LOCKS,
        split_locks_done: report.split_locks_done,
        began_ns: report.began().map(ns),
        took_ns: match report.stage {
            Stage::Done { since, at } => Some(ns(at - since)),
            _ => None,
        },
        complaints: complaints.collect(),
        more_complaints: report.more_complaints,
        runs: report.counts.runs,
        exits: report.counts.exits,
        runs_without_progress: report.counts.runs_without_progress,
        stood: report.counts.longest_stall.as_ref().map(|stall| Stood {
            at: stall.instruction.to_string(),
            time_ns: ns(stall.time),
        }),
        guard_did: report.statistics.map(|did| GuardDid {
            stalls: did.stalls,
            emulated_at_stalls: did.emulated_at_stalls,
            emulated_at_breakpoints: did.emulated_at_breakpoints,
            graces: did.graces,
            left_to_cpu: did.left_to_cpu,
        }),
    };
    Ok(format!("{}\n", serde_json::to_string_pretty(&document)?))
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
