//! `splitlock reproduce`.

use anyhow::Result;
use split_lock_lab::cpu::script::Command;

use super::sweep;
use crate::host::machine::bochs::Outcome;
use crate::host::machine::runner::Findings;

const REPRODUCE: &str = "reproduce";
const FILES: &str = "files";
const PROGRESS: &str = "progress";

/// A report on one CPU of a host that punishes.
const REPORT: [&str; 7] = [
    "report.html",
    "progress.csv",
    "progress.svg",
    "sparse.csv",
    "offsets.csv",
    "tasks.csv",
    "timeline.svg",
];

pub(super) fn commands() -> Vec<Command> {
    vec![
        Command::new(
            REPRODUCE,
            "/bin/splitlock reproduce --repeat 1 --seed 1 --no-png --out /tmp/report",
        ),
        Command::shell(FILES, "cd /tmp/report && find . -type f -size +0"),
        Command::new(PROGRESS, "/bin/busybox cat /tmp/report/progress.csv"),
    ]
}

pub(super) fn judge(outcome: &Outcome, findings: &mut Findings) -> Result<()> {
    let said = outcome.printed(REPRODUCE)?;
    let files = outcome.printed(FILES)?;
    let has = |name: &&str| {
        files
            .lines()
            .any(|line| line.strip_prefix("./") == Some(*name))
    };
    findings.check("the report has all of its parts", REPORT.iter().all(has));
    findings.check(
        "its finding is a livelock, and progress with a guard in every run",
        said.contains("a livelock") && said.contains("made progress in every single run"),
    );
    let progress = outcome.printed(PROGRESS)?;
    findings.check(
        "its series are measured on a CPU in software, and none is called native",
        sweep::is_of_this_cpu(&progress)?,
    );
    Ok(())
}
