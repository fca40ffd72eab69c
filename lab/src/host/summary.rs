//! A kernel's comparison in a few lines, and in JSON.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;
use split_lock_lab::replay::{Report, Verdict};
use split_lock_model::analysis::Thresholds;

use super::compare::Comparison;
use super::kernel::Kernel;
use super::machine::Shape;

/// Of the layout of the JSON.
const SCHEMA: u32 = 1;

/// Everything about one kernel.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    schema: u32,
    /// What is not as on a machine that detects split locks.
    how_obtained: &'static str,
    release: String,
    /// What the kernel was held against.
    profile: String,
    machines: Vec<Machine>,
}

/// What one machine did.
#[derive(Debug, Serialize)]
struct Machine {
    shape: &'static str,
    experiments: Vec<Comparison>,
}

const HOW_OBTAINED: &str = "a real kernel on QEMU's software CPU; its own handler, sleep, semaphore, \
    re-enable work and signals; VMMCALL or an ioctl stands for the split lock, and detection per CPU \
    is kept by a module as the kernel writes it";

impl Summary {
    pub(crate) fn new(kernel: &Kernel) -> Self {
        Self {
            schema: SCHEMA,
            how_obtained: HOW_OBTAINED,
            release: kernel.release.clone(),
            profile: kernel.profile.to_string(),
            machines: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, shape: Shape, experiments: Vec<Comparison>) {
        let shape = shape.name();
        self.machines.push(Machine { shape, experiments });
    }

    fn experiments(&self) -> impl Iterator<Item = &Comparison> {
        self.machines
            .iter()
            .flat_map(|machine| &machine.experiments)
    }

    /// Whether the kernel did what the model says, and there was something to compare.
    pub(crate) fn agrees(&self, limits: Option<&Thresholds>) -> bool {
        self.is_on_time_on_one_cpu()
            && self.experiments().all(|compared| {
                !compared.report.traps.is_empty()
                    && compared.report.mismatches.is_empty()
                    && compared.finds(limits)
            })
    }

    /// On one CPU whose clock counts instructions nothing is late by itself: there "at this tick" means just that.
    fn is_on_time_on_one_cpu(&self) -> bool {
        let machines = self.machines.iter();
        let mut counted = machines.filter(|machine| machine.shape == Shape::OneCpu.name());
        counted.all(|machine| {
            let mut reports = machine.experiments.iter().map(|compared| &compared.report);
            reports.all(|report| report.allowed.is_on_time() && report.misplaced_work == 0)
        })
    }

    /// For people.
    pub(crate) fn text(&self, limits: Option<&Thresholds>, json: &Path) -> String {
        let mut text = format!("\n{} held against {}\n", self.release, self.profile);
        text += "machine             experiment                              traps passed  cut no-sleep left-queue mismatches\n";
        let mut total = Report::default();
        for machine in &self.machines {
            for compared in &machine.experiments {
                let report = &compared.report;
                let _ = writeln!(
                    text,
                    "{:19} {:39} {:5} {:6} {:4} {:8} {:10} {:10}",
                    machine.shape,
                    compared.experiment.name,
                    report.traps.len(),
                    report.count(Verdict::Passed),
                    report.count(Verdict::CutShort),
                    report.count(Verdict::NoSleep),
                    report.count(Verdict::LeftQueue),
                    report.mismatches.len(),
                );
                for mismatch in report.mismatches.iter().take(3) {
                    let at = mismatch.ns as f64 / 1e9;
                    let _ = writeln!(
                        text,
                        "                    at {at:.6} s, thread {}: {}",
                        mismatch.pid, mismatch.what
                    );
                }
                total.absorb(report.clone());
            }
        }
        self.write_thresholds(&mut text, limits);
        let _ = writeln!(
            text,
            "compared {} traps, {} mismatches; work on another CPU than its own: {}; allowed: {}",
            total.traps.len(),
            total.mismatches.len(),
            total.misplaced_work,
            total.allowed
        );
        let _ = writeln!(text, "every trap: {}", json.display());
        text
    }

    fn write_thresholds(&self, text: &mut String, limits: Option<&Thresholds>) {
        let Some(limits) = limits else { return };
        let ms =
            |us: Option<u64>| us.map_or("-".to_owned(), |us| format!("{} ms", us as f64 / 1e3));
        for compared in self.experiments() {
            let Some(found) = &compared.thresholds else {
                continue;
            };
            let _ = writeln!(
                text,
                "{}: never past the sleep up to {} (predicted {}), always from {} (predicted {}); \
                 fate foretold from the ticks' phase: {} traps, {} too close to a tick to say",
                compared.experiment.name,
                ms(found.never_up_to_us),
                limits.never_up_to(),
                ms(found.always_from_us),
                limits.always_from(),
                found.foretold,
                found.too_close,
            );
        }
    }
}
