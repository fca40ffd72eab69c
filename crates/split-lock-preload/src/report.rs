//! What was seen and done, for whoever started the program.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use serde::Serialize;
use split_lock_assist::guard::Statistics;

use crate::lock;

/// Of the file; the reader is `splitlock run`.
const SCHEMA: u32 = 1;

/// More different texts than that are not kept of one vCPU.
const MANY: usize = 16;

/// The report of one process.
#[derive(Debug)]
pub(crate) struct Report {
    file: Option<PathBuf>,
    pid: i32,
    program: String,
    vcpus: Mutex<Vec<Arc<VcpuRecord>>>,
    problems: Mutex<Vec<String>>,
    changed: AtomicBool,
    /// Whoever writes the file.
    writer: Mutex<()>,
}

/// What was done for one vCPU. Numbers are written by its thread, and read by whoever writes the report.
#[derive(Debug)]
pub(crate) struct VcpuRecord {
    vm: u32,
    id: u32,
    punishments: AtomicU64,
    kicks: AtomicU64,
    stalls: AtomicU64,
    emulated_at_stalls: AtomicU64,
    emulated_at_breakpoints: AtomicU64,
    left_to_cpu: Mutex<BTreeMap<String, u64>>,
    instructions: Mutex<Vec<String>>,
    switched_off: Mutex<Option<String>>,
    changed: AtomicBool,
}

#[derive(Serialize)]
struct File<'a> {
    schema: u32,
    pid: i32,
    program: &'a str,
    problems: Vec<String>,
    vcpus: Vec<Vcpu>,
}

#[derive(Serialize)]
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
    #[serde(skip_serializing_if = "Option::is_none")]
    switched_off: Option<String>,
}

impl Report {
    pub(crate) fn new(folder: Option<&Path>, pid: i32) -> Self {
        let program = fs::read_link("/proc/self/exe").unwrap_or_default();
        Self {
            file: folder.map(|folder| folder.join(format!("{pid}.json"))),
            pid,
            program: program.to_string_lossy().into_owned(),
            vcpus: Mutex::default(),
            problems: Mutex::default(),
            changed: AtomicBool::new(true),
            writer: Mutex::default(),
        }
    }

    pub(crate) fn add_vcpu(&self, vm: u32, id: u32) -> Arc<VcpuRecord> {
        let record = Arc::new(VcpuRecord::new(vm, id));
        let mut vcpus = lock(&self.vcpus);
        // Of those that are gone, the uneventful are forgotten: a program may make a million.
        vcpus.retain(|it| Arc::strong_count(it) > 1 || it.is_of_interest());
        vcpus.push(Arc::clone(&record));
        self.changed.store(true, Release);
        record
    }

    /// Something that the user can do something about.
    pub(crate) fn problem(&self, text: &str) {
        let mut problems = lock(&self.problems);
        if problems.len() < MANY && !problems.iter().any(|it| it == text) {
            problems.push(text.into());
            self.changed.store(true, Release);
        }
    }

    pub(crate) fn write_if_changed(&self) {
        let changes = lock(&self.vcpus)
            .iter()
            .fold(false, |any, it| it.changed.swap(false, Acquire) | any);
        if self.changed.swap(false, Acquire) | changes {
            self.write();
        }
    }

    /// Whole, or not at all. That it cannot be written is nobody's business here: the program may have been put where
    /// there is no such folder.
    pub(crate) fn write(&self) {
        if let Some(file) = &self.file {
            let _one_at_a_time = lock(&self.writer);
            let _failed = self.write_to(file);
        }
    }

    fn write_to(&self, file: &Path) -> io::Result<()> {
        let draft = file.with_extension("draft");
        #[expect(
            clippy::disallowed_methods,
            reason = "it is the draft, which is renamed when it is whole"
        )]
        fs::write(&draft, self.json())?;
        fs::rename(&draft, file)
    }

    fn json(&self) -> String {
        let file = File {
            schema: SCHEMA,
            pid: self.pid,
            program: &self.program,
            problems: lock(&self.problems).clone(),
            vcpus: lock(&self.vcpus).iter().map(|it| it.numbers()).collect(),
        };
        serde_json::to_string(&file).unwrap_or_default()
    }
}

impl VcpuRecord {
    fn new(vm: u32, id: u32) -> Self {
        Self {
            vm,
            id,
            punishments: AtomicU64::default(),
            kicks: AtomicU64::default(),
            stalls: AtomicU64::default(),
            emulated_at_stalls: AtomicU64::default(),
            emulated_at_breakpoints: AtomicU64::default(),
            left_to_cpu: Mutex::default(),
            instructions: Mutex::default(),
            switched_off: Mutex::default(),
            changed: AtomicBool::new(false),
        }
    }

    pub(crate) fn update(&self, statistics: &Statistics) {
        self.stalls.store(statistics.stalls, Relaxed);
        self.emulated_at_stalls
            .store(statistics.emulated_at_stalls, Relaxed);
        self.emulated_at_breakpoints
            .store(statistics.emulated_at_breakpoints, Relaxed);
        self.changed.store(true, Release);
    }

    /// The kernel was seen punishing its thread.
    pub(crate) fn punished(&self) {
        self.punishments.fetch_add(1, Relaxed);
        self.changed.store(true, Release);
    }

    pub(crate) fn kicked(&self) {
        self.kicks.fetch_add(1, Relaxed);
    }

    pub(crate) fn left_to_cpu(&self, why: String) {
        let mut reasons = lock(&self.left_to_cpu);
        let is_one_too_many = reasons.len() >= MANY && !reasons.contains_key(&why);
        let why = if is_one_too_many {
            "another reason".into()
        } else {
            why
        };
        *reasons.entry(why).or_default() += 1;
        self.changed.store(true, Release);
    }

    /// In words, once for each.
    pub(crate) fn instruction(&self, text: String) {
        let mut instructions = lock(&self.instructions);
        if instructions.len() < MANY {
            instructions.push(text);
        }
    }

    /// Nothing is done for it any more, for this reason.
    pub(crate) fn switched_off(&self, why: String) {
        lock(&self.switched_off).get_or_insert(why);
        self.changed.store(true, Release);
    }

    fn is_of_interest(&self) -> bool {
        self.punishments.load(Relaxed) + self.stalls.load(Relaxed) > 0
            || lock(&self.switched_off).is_some()
    }

    fn numbers(&self) -> Vcpu {
        Vcpu {
            vm: self.vm,
            vcpu: self.id,
            punishments_seen: self.punishments.load(Relaxed),
            kicks: self.kicks.load(Relaxed),
            stalls: self.stalls.load(Relaxed),
            emulated_at_stalls: self.emulated_at_stalls.load(Relaxed),
            emulated_before_they_trapped: self.emulated_at_breakpoints.load(Relaxed),
            left_to_cpu: lock(&self.left_to_cpu).clone(),
            instructions: lock(&self.instructions).clone(),
            switched_off: lock(&self.switched_off).clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_written_when_something_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let report = Report::new(Some(folder.path()), 42);
        let file = folder.path().join("42.json");
        let record = report.add_vcpu(0, 3);
        report.write_if_changed();
        fs::remove_file(&file).unwrap();
        report.write_if_changed();
        assert!(!file.exists());
        record.left_to_cpu("its operand is not RAM".into());
        report.write_if_changed();
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            text.contains(r#""left_to_cpu":{"its operand is not RAM":1}"#),
            "{text}"
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_million_uneventful_vcpus_take_no_room() {
        let report = Report::new(None, 1);
        let eventful = report.add_vcpu(0, 0);
        eventful.punished();
        drop(eventful);
        for id in 1..1000 {
            report.add_vcpu(id, 0);
        }
        assert!(lock(&report.vcpus).len() <= 2);
        for n in 0..100 {
            lock(&report.vcpus)[0].left_to_cpu(n.to_string());
        }
        assert_eq!(lock(&report.vcpus)[0].numbers().left_to_cpu.len(), MANY + 1);
    }
}
