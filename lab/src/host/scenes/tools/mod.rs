//! The project's own tools in the machine, each with what has to come of it: from the model's thresholds, the CPU's
//! journal and the kernel's trace, not from what came before.

use std::path::Path;
use std::process;

use anyhow::{Context, Result, ensure};
use split_lock_lab::cpu::script::Command;
use split_lock_lab::watch::TRAP_PROBES;

use crate::host::args::ToolsArgs;
use crate::host::kernel::BootKernel;
use crate::host::machine::bochs::{Limits, Outcome};
use crate::host::machine::lab::Lab;
use crate::host::machine::runner::{self, Findings, Scene};
use crate::host::{output, programs};

mod doctor;
mod report;
mod sweep;

use sweep::{BUS_LOCK, SWEEPS_DETECTION_OFF, SWEEPS_PROGRAM, SWEEPS_WARN, Sweep};

const LIMITS: Limits = Limits::in_seconds(240, 1800);

/// What is booted, shown, and has to come of it.
struct Boot {
    name: &'static str,
    boot_words: &'static str,
    sweeps: &'static [Sweep],
    commands: fn() -> Vec<Command>,
    judge: fn(&Outcome, &mut Findings) -> Result<()>,
}

const DETECTION_OFF: &str = "detection off";
const WARN: &str = "warn";

const BOOTS: [Boot; 4] = [
    Boot {
        name: DETECTION_OFF,
        boot_words: "split_lock_detect=off",
        sweeps: &SWEEPS_DETECTION_OFF,
        commands: || vec![doctor::command(doctor::AFTERWARDS)],
        judge: doctor::judge_off,
    },
    Boot {
        name: WARN,
        boot_words: "",
        sweeps: &SWEEPS_WARN,
        commands: doctor::commands,
        judge: doctor::judge_warn,
    },
    Boot {
        name: "program",
        boot_words: "",
        sweeps: &SWEEPS_PROGRAM,
        commands: Vec::new,
        judge: |_, _| Ok(()),
    },
    Boot {
        name: "report",
        boot_words: "",
        sweeps: &[],
        commands: report::commands,
        judge: report::judge,
    },
];

/// The answer is whether the guests got on where they should, and only there, and whether the other tools have seen that
/// machine as it is.
pub(crate) fn run(args: &ToolsArgs) -> Result<bool> {
    let lab = Lab::open([1])?;
    let kernel = &lab.kernel(&args.kernel)?;
    let scene = |boot: &'static Boot| boot.scene(kernel, args.out.is_some());
    let is_fine = runner::run(&lab, BOOTS.iter().map(scene).collect())?;
    if let Some(out) = &args.out {
        draw(&lab, kernel, out)?;
    }
    Ok(is_fine)
}

fn scene_name(boot: &str) -> String {
    format!("tools {boot}")
}

impl Boot {
    fn scene<'a>(&'a self, kernel: &'a BootKernel, for_figures: bool) -> Scene<'a> {
        let mut commands = vec![doctor::command(doctor::BEFORE)];
        commands.extend(self.sweeps.iter().map(|it| it.command(for_figures)));
        commands.extend((self.commands)());
        let judge = |outcome: &Outcome, folder: &Path| self.judge(kernel, outcome, folder);
        let name = scene_name(self.name);
        let mut scene = Scene::new(&name, kernel, LIMITS, commands, judge).with_kvm();
        scene.options.bus_lock_ns = BUS_LOCK.subsec_nanos();
        scene.boot_words = self.boot_words;
        scene.script.probes = TRAP_PROBES.map(str::to_owned).into();
        scene
    }

    fn judge(&self, kernel: &BootKernel, outcome: &Outcome, folder: &Path) -> Result<Findings> {
        let mut findings = Findings::new(&format!("\n{}, {}", kernel.release, self.name));
        let profile = doctor::profile(outcome)?;
        for sweep in self.sweeps {
            let csv = outcome.printed(sweep.name)?;
            output::write(&folder.join(csv_name(sweep.name)), csv.as_bytes())?;
            let traps = outcome.traps_during(sweep.name)?;
            ensure!(
                traps.iter().all(|trap| sweep.is_own(trap)),
                "something else than what {} measures splits locks",
                sweep.name
            );
            let (what, is_so) = sweep.judge(&csv, traps.len(), &profile)?;
            findings.check(&what, is_so);
        }
        (self.judge)(outcome, &mut findings)?;
        findings.say(&format!("  all of it: {}", folder.display()));
        Ok(findings)
    }
}

fn csv_name(sweep: &str) -> String {
    format!("{sweep}.csv")
}

/// A figure, and the sweeps that it shows: their boots and names.
const FIGURES: [(&str, [(&str, &str); 3]); 2] = [
    (
        "progress",
        [
            (DETECTION_OFF, "dense"),
            (WARN, "dense"),
            (WARN, "dense-emulate"),
        ],
    ),
    (
        "sparse",
        [
            (DETECTION_OFF, "sparse"),
            (WARN, "sparse"),
            (WARN, "sparse-emulate"),
        ],
    ),
];

/// What the sweeps of a figure are called beside it.
const CONDITIONS: [&str; 3] = ["detection-off", "warn", "guard-emulate"];

fn draw(lab: &Lab, kernel: &BootKernel, out: &Path) -> Result<()> {
    for (figure, sweeps) in FIGURES {
        let mut plot = process::Command::new(lab.splitlock());
        plot.arg("plot");
        for ((boot, sweep), condition) in sweeps.into_iter().zip(CONDITIONS) {
            let from = lab.results(kernel, &scene_name(boot)).join(csv_name(sweep));
            let csv =
                std::fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
            let to = out.join(format!("{figure}-{condition}.csv"));
            output::write(&to, &csv)?;
            plot.arg(to);
        }
        let svg = out.join(format!("{figure}.svg"));
        programs::run(plot.arg("--out").arg(&svg))?;
        println!("figure: {}", svg.display());
    }
    Ok(())
}
