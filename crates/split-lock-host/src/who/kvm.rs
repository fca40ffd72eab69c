//! What KVM says about its vCPUs in debugfs, which only root may look into.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::{Root, Seen};

const FOLDER: &str = "sys/kernel/debug/kvm";

/// More vCPUs than this are not looked at.
const MOST_VCPUS: usize = 1024;

/// Long enough for two signals of any period with which a split lock can be a matter of life and death, and
/// short enough to wait for.
const SAMPLED_FOR: Duration = Duration::from_millis(40);

/// The virtual machines of KVM: `PID-FD` each.
#[derive(Debug, Default)]
pub(super) struct Debugfs {
    machines: Vec<String>,
}

impl Debugfs {
    pub(super) fn read(root: &Root) -> Self {
        Self::look(root)
            .known()
            .cloned()
            .map_or_else(Self::default, |machines| Debugfs { machines })
    }

    fn look(root: &Root) -> Seen<Vec<String>> {
        let names = root.list(FOLDER);
        names.map(|names| {
            let names = names.iter().filter_map(|name| name.to_str());
            let machines = names.filter(|name| pid_of(name).is_some());
            machines.map(str::to_owned).collect()
        })
    }

    /// The threads that have run vCPUs of a process, where the kernel says so.
    pub(super) fn vcpu_threads(&self, root: &Root, pid: u32) -> BTreeSet<u32> {
        let machines = self.machines.iter();
        let machines = machines.filter(|machine| pid_of(machine) == Some(pid));
        let vcpus = machines.flat_map(|machine| vcpus(root, machine));
        vcpus.filter_map(|vcpu| vcpu.thread(root)).collect()
    }
}

fn pid_of(machine: &str) -> Option<u32> {
    let (pid, _file) = machine.split_once('-')?;
    pid.parse().ok()
}

/// A folder of a vCPU.
struct Folder {
    pid: u32,
    vcpu: u32,
    path: PathBuf,
}

fn vcpus(root: &Root, machine: &str) -> Vec<Folder> {
    let path = PathBuf::from(FOLDER).join(machine);
    let names = root.list(&path);
    let names = names.known().map_or(&[][..], Vec::as_slice).iter();
    let folder = |name: &std::ffi::OsString| {
        Some(Folder {
            pid: pid_of(machine)?,
            vcpu: name.to_str()?.strip_prefix("vcpu")?.parse().ok()?,
            path: path.join(name),
        })
    };
    names.filter_map(folder).take(MOST_VCPUS).collect()
}

impl Folder {
    fn thread(&self, root: &Root) -> Option<u32> {
        let pid = root.text(self.path.join("pid"));
        pid.known()?.trim().parse().ok().filter(|&pid| pid != 0)
    }

    /// How often a signal has ended a run.
    fn signal_exits(&self, root: &Root) -> Option<u64> {
        let count = root.text(self.path.join("signal_exits"));
        count.known()?.trim().parse().ok()
    }
}

/// How often signals have ended the runs of vCPUs, while that was counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignalExits {
    /// How long it was counted.
    pub over_ns: u64,
    /// Of each vCPU.
    pub vcpus: Vec<ExitsOfVcpu>,
}

/// How often signals have ended the runs of a vCPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ExitsOfVcpu {
    /// The process of its VMM.
    pub pid: u32,
    /// Its number.
    pub vcpu: u32,
    /// Its thread. Older kernels do not say.
    pub tid: Option<u32>,
    /// How many exits there were.
    pub exits: u64,
}

impl SignalExits {
    /// Counts for 40 ms, if this machine is live and has virtual machines that KVM tells of.
    pub fn read(root: &Root) -> Seen<Self> {
        let answer = root.ask("signal-exits", || root.aside(sample));
        answer.find(|text| Self::parse(&text))
    }

    /// A line with the time, and `PID VCPU TID EXITS` for each vCPU, with 0 for a thread that is not known.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let over_ns = lines.next()?.parse().ok().filter(|&ns| ns > 0)?;
        let vcpu = |line: &str| {
            let mut words = line.split_whitespace();
            let pid = words.next()?.parse().ok()?;
            let vcpu = words.next()?.parse().ok()?;
            let tid = words.next()?.parse().ok()?;
            let exits = words.next()?.parse().ok()?;
            Some(ExitsOfVcpu {
                pid,
                vcpu,
                tid: (tid != 0).then_some(tid),
                exits,
            })
        };
        Some(SignalExits {
            over_ns,
            vcpus: lines.filter_map(vcpu).take(MOST_VCPUS).collect(),
        })
    }
}

fn sample(root: &Root) -> Seen<String> {
    let machines = match Debugfs::look(root) {
        Seen::Is(machines) => machines,
        Seen::Absent => return Seen::Absent,
        Seen::CouldNotSee { path, why } => return Seen::CouldNotSee { path, why },
    };
    let folders = machines.iter().flat_map(|machine| vcpus(root, machine));
    let folders: Vec<_> = folders.take(MOST_VCPUS).collect();
    let count = || folders.iter().map(|folder| folder.signal_exits(root));
    let first: Vec<_> = count().collect();
    if first.iter().all(Option::is_none) {
        return Seen::Absent;
    }
    let since = Instant::now();
    thread::sleep(SAMPLED_FOR);
    let over = since.elapsed();
    let second: Vec<_> = count().collect();
    let mut text = over.as_nanos().to_string();
    for (folder, (first, second)) in folders.iter().zip(first.into_iter().zip(second)) {
        // One that has ended meanwhile is no news.
        if let (Some(first), Some(second)) = (first, second) {
            let tid = folder.thread(root).unwrap_or(0);
            let exits = second.saturating_sub(first);
            text += &format!("\n{} {} {tid} {exits}", folder.pid, folder.vcpu);
        }
    }
    Seen::Is(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_of_a_capture_is_read_back() {
        let exits = SignalExits::parse("40000000\n7 0 8 40\n7 1 0 0\nnonsense\n").unwrap();
        assert_eq!(exits.over_ns, 40_000_000);
        let vcpus: Vec<_> = exits
            .vcpus
            .iter()
            .map(|vcpu| (vcpu.tid, vcpu.exits))
            .collect();
        assert_eq!(vcpus, [(Some(8), 40), (None, 0)]);
        for damaged in ["", "x", "0\n7 0 8 40"] {
            assert_eq!(SignalExits::parse(damaged), None);
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "([0-9]{1,25}|[ \n]|\\PC){0,20}") {
            let _ = (SignalExits::parse(&text), pid_of(&text));
        }
    }
}
