//! What came of it, in a few lines, and in JSON.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;
use split_lock_lab::replay::{Allowed, Verdict};
use split_lock_model::policy::Alternative;

use super::compare::{Comparison, MachineReport};
use crate::host::kernel::BootKernel;

/// Of the layout of the JSON.
const SCHEMA: u32 = 2;

/// Everything about one kernel.
#[derive(Debug, Serialize)]
pub(super) struct Summary<'a> {
    schema: u32,
    how_obtained: &'static str,
    release: &'a str,
    /// What the kernel does about signals; `upstream` if it is unmodified.
    policy: Alternative,
    machines: Vec<MachineReport>,
}

const HOW_OBTAINED: &str = "measured (CPU emulated): a kernel on a CPU in software that detects split locks; \
    its own trace joined with the CPU's journal";

impl MachineReport {
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{:36} traps passed  cut no-sleep left-queue SIGBUS   #DB let-through mismatches",
            format!("{} ({})", self.name, self.profile)
        );
        for compared in &self.experiments {
            compared.write(&mut text);
        }
        for wrong in &self.wrong {
            let _ = writeln!(text, "    {wrong}");
        }
        text
    }
}

impl Comparison {
    fn write(&self, text: &mut String) {
        let report = &self.report;
        let _ = writeln!(
            text,
            "  {:34} {:5} {:6} {:4} {:8} {:10} {:6} {:5} {:11} {:10}",
            self.experiment.name,
            report.traps.len(),
            report.count(Verdict::Passed),
            report.count(Verdict::CutShort),
            report.count(Verdict::NoSleep),
            report.count(Verdict::LeftQueue),
            report.count(Verdict::Sigbus),
            report.bus_locks,
            self.let_through,
            report.mismatches.len() + self.wrong.len(),
        );
        for mismatch in report.mismatches.iter().take(3) {
            let at = mismatch.ns as f64 / 1e9;
            let _ = writeln!(
                text,
                "    at {at:.6} s, thread {}: {}",
                mismatch.pid, mismatch.what
            );
        }
        for wrong in &self.wrong {
            let _ = writeln!(text, "    {wrong}");
        }
    }
}

impl<'a> Summary<'a> {
    pub(super) fn new(kernel: &'a BootKernel, machines: Vec<MachineReport>) -> Self {
        Self {
            schema: SCHEMA,
            how_obtained: HOW_OBTAINED,
            release: &kernel.release,
            policy: kernel.policy(),
            machines,
        }
    }

    fn comparisons(&self) -> impl Iterator<Item = &Comparison> {
        self.machines
            .iter()
            .flat_map(|machine| &machine.experiments)
    }

    pub(super) fn text(&self, json: &Path) -> String {
        let mut text = format!("{} held against the model\n", self.release);
        let mut allowed = Allowed::default();
        for compared in self.comparisons() {
            compared.write_thresholds(&mut text);
            allowed.absorb(compared.report.allowed);
        }
        let reports = || self.comparisons().map(|compared| &compared.report);
        let _ = writeln!(
            text,
            "  compared {} traps and {} bus locks, {} mismatches; work on another CPU than its own: {}; allowed: {allowed}",
            reports().map(|report| report.traps.len()).sum::<usize>(),
            reports().map(|report| report.bus_locks).sum::<u64>(),
            self.machines
                .iter()
                .map(MachineReport::mismatches)
                .sum::<usize>(),
            reports().map(|report| report.misplaced_work).sum::<u64>(),
        );
        let _ = writeln!(text, "  every trap: {}", json.display());
        text
    }
}

impl Comparison {
    fn write_thresholds(&self, text: &mut String) {
        let Some(found) = &self.thresholds else {
            return;
        };
        let ms = |us: Option<u64>| us.map_or("-".to_owned(), |us| format!("{}ms", us as f64 / 1e3));
        let _ = writeln!(
            text,
            "  {}: never past the sleep up to {} (predicted {}), always from {} (predicted {}); \
             fate foretold from the ticks' phase: {} traps, {} too close to a tick to say",
            self.experiment.name,
            ms(found.never_up_to_us),
            found.predicted.0,
            ms(found.always_from_us),
            found.predicted.1,
            found.foretold,
            found.too_close,
        );
    }
}
