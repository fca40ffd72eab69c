//! `splitlock doctor`, `splitlock log` and `splitlock explain --pid`.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use split_lock_lab::cpu::script::{Command, TRACE};
use split_lock_lab::cpu::trace::hexadecimal;
use split_lock_lab::watch::{ThreadStats, is_whole, thread_stats};
use split_lock_model::kernel::Profile;

use crate::host::machine::bochs::Outcome;
use crate::host::machine::outputs::{bytes, output_of};
use crate::host::machine::runner::Findings;

/// The doctor, before anything has trapped and afterwards.
pub(super) const BEFORE: &str = "doctor-before";
pub(super) const AFTERWARDS: &str = "doctor-afterwards";

const PROGRAM: &str = "program";
const EXPLAIN: &str = "explain";
const LOG: &str = "log";

pub(super) fn command(name: &str) -> Command {
    Command::new(name, "/bin/splitlock doctor --json")
}

/// Beside a program that goes on splitting locks.
pub(super) fn commands() -> Vec<Command> {
    let program = "lab-split --count 1000 --pause-ms 100 >/dev/null 2>&1 & sleep 1";
    let explain = "address=$(dmesg | sed -n 's/.*lab-split.* trap at address: //p' | tail -n 1)
         splitlock explain --pid $(pidof lab-split) --address $address --json";
    vec![
        Command::shell(PROGRAM, program),
        Command::shell(EXPLAIN, explain),
        command(AFTERWARDS),
        Command::new(LOG, "/bin/splitlock log /dev/kmsg --format json"),
        // So that it traps no more once the trace has been read.
        Command::shell("stop", "kill $(pidof lab-split); sleep 1"),
    ]
}

/// The kernel that the doctor has seen, as the model knows it.
pub(super) fn profile(outcome: &Outcome) -> Result<Profile> {
    let found = found(outcome, BEFORE)?;
    let release = fact(&found, "kernel_release");
    let release = release.as_str().context("the doctor sees no kernel")?;
    let hz = fact(&found, "hz");
    let hz = hz.as_u64().context("the doctor sees no tick rate")?;
    let profile = format!("{release},hz={hz}").parse();
    profile.with_context(|| format!("the model does not know {release}"))
}

/// What the doctor printed, which has to fit its exit code.
fn found(outcome: &Outcome, name: &str) -> Result<Value> {
    let [out, err, code] = output_of(&outcome.bundles, name)?;
    let found: Value = serde_json::from_str(&out)
        .with_context(|| format!("the doctor printed no JSON: {}", err.trim()))?;
    let expected_code = match found["answer"].as_str() {
        Some("fine") => "0",
        Some("found") => "1",
        _ => "3",
    };
    ensure!(
        code == expected_code,
        "the doctor ended with {code}, and not with {expected_code} as its answer says"
    );
    Ok(found)
}

fn fact<'a>(found: &'a Value, name: &str) -> &'a Value {
    &found["facts"][name]["seen"]["is"]
}

/// Of a kernel that was told not to detect.
pub(super) fn judge_off(outcome: &Outcome, findings: &mut Findings) -> Result<()> {
    let found = found(outcome, AFTERWARDS)?;
    findings.check(
        &format!("doctor: {}", title(&found)),
        found["verdict"]["condition"]["is"] == "off" && found["answer"] == "fine",
    );
    findings.check(
        "neither the kernel nor the CPU knows of a trap",
        traced(outcome)?.is_empty() && outcome.journal.alignment_checks().next().is_none(),
    );
    Ok(())
}

/// Of a kernel that punishes.
pub(super) fn judge_warn(outcome: &Outcome, findings: &mut Findings) -> Result<()> {
    let threads = traced(outcome)?;
    let mut handled: Vec<u64> = threads
        .iter()
        .flat_map(|(_, it)| it.addresses.clone())
        .collect();
    let raised = outcome.journal.alignment_checks().map(|trap| trap.rip);
    let mut raised: Vec<u64> = raised.collect();
    handled.sort_unstable();
    raised.sort_unstable();
    findings.check(
        &format!(
            "the kernel has handled each of the {} #AC of the CPU",
            raised.len()
        ),
        handled == raised,
    );
    judge_doctor(outcome, &threads, findings)?;
    judge_explanation(outcome, &threads, findings)?;
    judge_log(outcome, &threads, findings)
}

fn judge_doctor(outcome: &Outcome, threads: &Threads, findings: &mut Findings) -> Result<()> {
    let before = found(outcome, BEFORE)?;
    let found = found(outcome, AFTERWARDS)?;
    findings.check(
        &format!("doctor: {}, by what the kernel said at boot", title(&found)),
        is_livelock(&before) && is_livelock(&found),
    );
    let logged = |found: &Value| found["history"]["seen"]["is"]["alignment_checks"].as_u64();
    findings.check(
        "it knows of no trap before the first, and of one of each thread afterwards",
        logged(&before) == Some(0) && logged(&found) == Some(threads.len() as u64),
    );
    let instructions = found["instructions"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let is_it = |it: &&Value| it["file"] == "/bin/lab-split" && it["locks"] == true;
    findings.check(
        "it finds the program that splits locks meanwhile, and its instruction",
        instructions.iter().filter(is_it).count() == 1,
    );
    Ok(())
}

fn title(found: &Value) -> &str {
    found["title"].as_str().unwrap_or("no title")
}

fn is_livelock(found: &Value) -> bool {
    let verdict = &found["verdict"];
    verdict["condition"]["is"] == "livelock"
        && verdict["basis"] == "boot_line"
        && found["answer"] == "found"
}

/// The program is the last that began to split locks.
fn judge_explanation(outcome: &Outcome, threads: &Threads, findings: &mut Findings) -> Result<()> {
    let explained: Value = serde_json::from_str(&outcome.printed(EXPLAIN)?)?;
    let instruction = explained["instruction"]["text"].as_str();
    let instruction = instruction.unwrap_or("no instruction");
    let address = explained["address"].as_str().and_then(hexadecimal);
    let trapped_at = threads.last().map(|(_, stats)| stats.addresses[0]);
    findings.check(
        &format!("explain, where that program trapped: {instruction}"),
        address.is_some()
            && address == trapped_at
            && explained["lock"] == "prefix"
            && explained["split"] != "no",
    );
    Ok(())
}

/// The kernel names each thread once.
fn judge_log(outcome: &Outcome, threads: &Threads, findings: &mut Findings) -> Result<()> {
    let lines = outcome.printed(LOG)?;
    let events = lines.lines().map(serde_json::from_str::<Value>);
    let events = events.collect::<Result<Vec<_>, _>>()?;
    let logged = events.iter().filter(|event| event["event"] == "split_lock");
    let logged = logged.map(|event| {
        let address = event["address"].as_str().and_then(hexadecimal);
        (event["tid"].as_i64(), address)
    });
    let first_traps = threads.iter().map(|(tid, stats)| {
        let address = stats.addresses.first().copied();
        (Some(i64::from(*tid)), address)
    });
    findings.check(
        &format!(
            "log: the first trap of each of {} threads, with thread and address as in the kernel's trace",
            threads.len()
        ),
        logged.eq(first_traps),
    );
    Ok(())
}

/// In the order of their first traps.
type Threads = [(i32, ThreadStats)];

fn traced(outcome: &Outcome) -> Result<Vec<(i32, ThreadStats)>> {
    let trace = bytes(&outcome.bundles, TRACE)?;
    let trace = String::from_utf8_lossy(trace);
    ensure!(is_whole(&trace), "the kernel's trace has lost lines");
    let mut threads: Vec<_> = thread_stats(&trace).into_iter().collect();
    threads.sort_by_key(|(_, stats)| stats.first_ns);
    Ok(threads)
}
