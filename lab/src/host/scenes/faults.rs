//! Faults that this CPU has shown, and that are not to come back.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use split_lock_lab::cpu::script::{Command, PlacedFile};

use crate::host::args::Kernels;
use crate::host::kernel::BootKernel;
use crate::host::machine::bochs::{Limits, Outcome};
use crate::host::machine::lab::Lab;
use crate::host::machine::outputs::rows;
use crate::host::machine::runner::{self, Findings, Scene};

const LIMITS: Limits = Limits::in_seconds(120, 900);

/// What showed a fault, and has to show none.
struct Fault {
    name: &'static str,
    cpus: u8,
    /// Of `splitlock`.
    arguments: &'static str,
    judge: fn(&Outcome) -> Result<(String, bool)>,
}

const FAULTS: [Fault; 4] = [
    // No run warms up, so that the first stall of the process is in one that counts.
    Fault {
        name: "first stall",
        cpus: 1,
        arguments: "sweep --guest split --guard emulate --timeouts 1ms,5ms,30ms --repeat 3 --warm-up 0 --seed 1 --csv -",
        judge: ends_in_time,
    },
    Fault {
        name: "first stall of two vCPUs",
        cpus: 2,
        arguments: "sweep --guest contend --vcpus 2 --guard emulate --timeouts 30ms --repeat 10 --seed 1 --csv -",
        judge: ends_in_time,
    },
    Fault {
        name: "rate under grace",
        cpus: 1,
        arguments: "sweep --guest split --guard grace --timeouts 1ms..25ms/6ms --repeat 3 --seed 1",
        judge: claims_no_rate,
    },
    // Before RCU can complain.
    Fault {
        name: "silent hang",
        cpus: 1,
        arguments: "demo linux --kernel /KERNEL --memory 192MiB --boot-timeout 60s --duration 2s",
        judge: is_said_to_hang,
    },
];

/// The only one of a scene.
const COMMAND: &str = "splitlock";

/// Stands for the name of the kernel's file.
const KERNEL: &str = "KERNEL";

/// Whether all of them stay away.
pub(crate) fn run(args: &Kernels) -> Result<bool> {
    let lab = Lab::open(FAULTS.iter().map(|fault| fault.cpus))?;
    let kernels = lab.kernels(&args.kernel)?;
    let scenes = kernels
        .iter()
        .flat_map(|kernel| FAULTS.iter().map(|fault| fault.scene(kernel)));
    runner::run(&lab, scenes.collect::<Result<_>>()?)
}

impl Fault {
    fn scene<'a>(&'a self, kernel: &'a BootKernel) -> Result<Scene<'a>> {
        let image = kernel.image.file_name().and_then(|name| name.to_str());
        let image = image.context("a kernel is a file with a name of text")?;
        let arguments = self.arguments.replace(KERNEL, image);
        let command = Command::new(COMMAND, &format!("/bin/splitlock {arguments}"));
        let judge = |outcome: &Outcome, _: &Path| {
            let mut findings = Findings::new(&format!("\n{}, {}", kernel.release, self.name));
            let (what, is_so) = (self.judge)(outcome)?;
            findings.check(&what, is_so);
            Ok(findings)
        };
        let mut scene = Scene::new(self.name, kernel, LIMITS, [command], judge).with_kvm();
        scene.options.cpus = self.cpus;
        scene.script.files = vec![PlacedFile::in_root(kernel.image.clone())];
        Ok(scene)
    }
}

/// A thread that could run may wait for its CPU until the next tick. Kernels have 250 of them in a second, or more.
const LONGEST_OVERSHOOT: Duration = Duration::from_millis(4);

#[derive(Deserialize)]
struct Sample {
    timeout_ns: u64,
    elapsed_ns: u64,
}

/// iced-x86 built its tables in the run with the first stall, which took 22 ms; all vCPUs that stalled waited for them.
fn ends_in_time(outcome: &Outcome) -> Result<(String, bool)> {
    let longest = longest_overshoot(&outcome.printed(COMMAND)?)?;
    let traps = outcome.traps_during(COMMAND)?.len();
    Ok((
        format!("runs end at most {longest:?} too late ({traps} traps)"),
        longest < LONGEST_OVERSHOOT && traps > 0,
    ))
}

fn longest_overshoot(csv: &str) -> Result<Duration> {
    let samples: Vec<Sample> = rows(csv)?;
    let overshoots = samples
        .iter()
        .map(|it| it.elapsed_ns.saturating_sub(it.timeout_ns));
    let longest = overshoots.max().context("a sweep without samples")?;
    Ok(Duration::from_nanos(longest))
}

/// A line was drawn through what runs of 28 ms came to, against timeouts that they did not depend on.
fn claims_no_rate(outcome: &Outcome) -> Result<(String, bool)> {
    let chart = outcome.printed(COMMAND)?;
    Ok((
        "turns are independent of the timeout, and have no rate".into(),
        chart.contains("independent of the timeout") && !chart.contains("turns/s"),
    ))
}

/// Of a guest that hung, and whose kernel had not complained, it was said that it was content.
fn is_said_to_hang(outcome: &Outcome) -> Result<(String, bool)> {
    let report = outcome.printed(COMMAND)?;
    let words = [
        "The guest hangs: 0 split locks done",
        "no complaints in the guest's log, although it hangs",
    ];
    Ok((
        "the guest is said to hang although its kernel has not complained".into(),
        words.iter().all(|words| report.contains(words)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_overshoot_is_that_of_the_slowest_run() {
        let csv = "# schema: 1\nturns,timeout_ns,elapsed_ns\n7,1000000,900000\n7,5000000,27650825\n7,5000000,5000001\n";
        let longest = longest_overshoot(csv).unwrap();
        assert_eq!(longest, Duration::from_nanos(22_650_825));
        assert!(longest_overshoot("turns,timeout_ns,elapsed_ns\n").is_err());
        assert!(longest_overshoot("the kernel panicked").is_err());
    }
}
