//! What the library has written down, one file for each process, and what it comes to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use split_lock_host::Facts;
use split_lock_model::analysis::Thresholds;
use split_lock_model::kernel::Profile;

use crate::kernel_choice::of_this_host;

/// A process that has used KVM.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub(crate) struct Process {
    schema: u32,
    pid: u32,
    program: String,
    problems: Vec<String>,
    vcpus: Vec<Vcpu>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
struct Vcpu {
    vm: u32,
    vcpu: u32,
    punishments_seen: u64,
    kicks: u64,
    stalls: u64,
    emulated_at_stalls: u64,
    emulated_before_they_trapped: u64,
    left_to_cpu: BTreeMap<String, u64>,
    instructions: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    switched_off: Option<String>,
}

/// All of it, with what the model says.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    schema: &'static str,
    schema_version: u32,
    kernel: Option<String>,
    saved: Option<Saved>,
    processes: Vec<Process>,
}

/// How much longer the vCPUs would have waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Saved {
    /// Only those that were punished already when the instruction was done for them.
    at_least_ns: u64,
    /// If all others had been punished, too.
    at_most_ns: u64,
}

/// Those that are whole; others are being written, or were left by somebody else.
pub(crate) fn read(folder: &Path) -> Vec<Process> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let reports = files
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|it| it == "json"));
    let mut processes: Vec<Process> = reports
        .filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok())
        .collect();
    processes.sort_by_key(|process| process.pid);
    processes
}

impl Summary {
    pub(crate) fn new(processes: Vec<Process>) -> Self {
        let facts = Facts::live().ok();
        let kernel = facts.and_then(|facts| of_this_host(&facts).ok());
        Self {
            schema: "splitlock-run",
            schema_version: 1,
            saved: kernel.as_ref().and_then(|kernel| saved(&processes, kernel)),
            kernel: kernel.map(|kernel| kernel.to_string()),
            processes,
        }
    }

    pub(crate) fn text(&self) -> String {
        if self.processes.is_empty() {
            return "no program has made a virtual machine by way of the C library's ioctl\n"
                .into();
        }
        let mut text = String::new();
        for process in &self.processes {
            process.write(&mut text);
        }
        let saved = self.saved.filter(|saved| saved.at_most_ns > 0);
        if let (Some(saved), Some(kernel)) = (saved, &self.kernel) {
            let time = |ns| humantime::format_duration(Duration::from_millis(ns / 1_000_000));
            let (least, most) = (time(saved.at_least_ns), time(saved.at_most_ns));
            let _ = writeln!(
                text,
                "saved from {least} to {most} of waiting, by the model of Linux {kernel}"
            );
        }
        text
    }
}

impl Process {
    /// Its number, if the program that was started has left it behind.
    pub(crate) fn still_runs(&self) -> Option<u32> {
        let program = fs::read_link(format!("/proc/{}/exe", self.pid)).ok()?;
        (program == Path::new(&self.program)).then_some(self.pid)
    }

    fn write(&self, text: &mut String) {
        let _ = writeln!(text, "process {} ({}):", self.pid, self.program);
        for problem in &self.problems {
            let _ = writeln!(text, "  {problem}");
        }
        let (eventful, quiet): (Vec<_>, Vec<_>) =
            self.vcpus.iter().partition(|it| it.is_eventful());
        for vcpu in &eventful {
            vcpu.write(text);
        }
        if !quiet.is_empty() {
            let _ = writeln!(text, "  vCPUs that were not punished: {}", quiet.len());
        }
    }
}

impl Vcpu {
    fn is_eventful(&self) -> bool {
        self.punishments_seen + self.stalls + self.emulated() > 0 || self.switched_off.is_some()
    }

    fn emulated(&self) -> u64 {
        self.emulated_at_stalls + self.emulated_before_they_trapped
    }

    fn write(&self, text: &mut String) {
        let left: u64 = self.left_to_cpu.values().sum();
        let _ = writeln!(
            text,
            "  VM {}, vCPU {}: punished {} times, {} instructions emulated there and {} before they trapped, {left} left \
             to the CPU",
            self.vm,
            self.vcpu,
            self.punishments_seen.max(self.stalls),
            self.emulated_at_stalls,
            self.emulated_before_they_trapped,
        );
        for (why, count) in &self.left_to_cpu {
            let _ = writeln!(text, "    {count} times: {why}");
        }
        for instruction in &self.instructions {
            let _ = writeln!(text, "    {instruction}");
        }
        if let Some(why) = &self.switched_off {
            let _ = writeln!(text, "    nothing more was done for it: {why}");
        }
    }
}

/// `None` if this kernel makes nobody wait.
fn saved(processes: &[Process], kernel: &Profile) -> Option<Saved> {
    let limits = Thresholds::of(kernel)?;
    let vcpus = || processes.iter().flat_map(|process| &process.vcpus);
    let at_stalls: u64 = vcpus().map(|vcpu| vcpu.emulated_at_stalls).sum();
    let all: u64 = vcpus().map(Vcpu::emulated).sum();
    Some(Saved {
        at_least_ns: at_stalls.saturating_mul(limits.never_up_to().0),
        at_most_ns: all.saturating_mul(limits.always_from().0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> Process {
        let text = r#"{"schema":1,"pid":7,"program":"/vmm","problems":["a problem"],"vcpus":[
            {"vm":0,"vcpu":1,"punishments_seen":3,"kicks":4,"stalls":3,"emulated_at_stalls":2,
             "emulated_before_they_trapped":98,"left_to_cpu":{"its operand is not RAM":1},
             "instructions":["0x10: lock inc"]},
            {"vm":0,"vcpu":2,"punishments_seen":0,"kicks":0,"stalls":0,"emulated_at_stalls":0,
             "emulated_before_they_trapped":0,"left_to_cpu":{},"instructions":[]}]}"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_was_saved_is_between_what_had_begun_and_all_of_it() {
        let kernel: Profile = "6.1.192,hz=250".parse().unwrap();
        let saved = saved(&[process()], &kernel).unwrap();
        assert_eq!(saved.at_least_ns, 2 * 12_000_000);
        assert_eq!(saved.at_most_ns, 100 * 16_000_000);
        let without: Profile = "6.1.192,hz=250,mitigate=0".parse().unwrap();
        assert_eq!(super::saved(&[process()], &without), None);
    }

    #[test]
    fn each_vcpu_that_was_punished_has_a_line_and_its_reasons() {
        let summary = Summary::new(vec![process()]);
        let text = summary.text();
        for part in [
            "process 7 (/vmm)",
            "a problem",
            "vCPU 1: punished 3 times",
            "1 times: its operand is not RAM",
            "lock inc",
            "not punished: 1",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
