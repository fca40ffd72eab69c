//! What KVM says about machines and their vCPUs in debugfs, which only root may look into.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::{Observed, Root};

const FOLDER: &str = "sys/kernel/debug/kvm";
const MOST_MACHINES: usize = 1024;
const MOST_VCPUS: usize = 1024;

/// Long enough for two signals of any period with which a split lock can be a matter of life and death, and
/// short enough to wait for.
const SAMPLED_FOR: Duration = Duration::from_millis(40);

/// The virtual machines of KVM: `PID-FD` each.
#[derive(Debug)]
pub(super) struct Debugfs {
    machines: Option<Vec<String>>,
}

impl Debugfs {
    pub(super) fn read(root: &Root) -> Self {
        Debugfs {
            machines: Self::look(root).known().cloned(),
        }
    }

    /// Whether these are all that there are.
    pub(super) fn is_seen(&self) -> bool {
        self.machines.is_some()
    }

    pub(super) fn has(&self, pid: u32) -> bool {
        self.of(pid).next().is_some()
    }

    fn of(&self, pid: u32) -> impl Iterator<Item = &String> {
        let machines = self.machines.iter().flatten();
        machines.filter(move |machine| pid_of(machine) == Some(pid))
    }

    fn look(root: &Root) -> Observed<Vec<String>> {
        let names = root.list(FOLDER);
        names.map(|names| {
            let names = names.iter().filter_map(|name| name.to_str());
            let machines = names.filter(|name| pid_of(name).is_some());
            machines.map(str::to_owned).collect()
        })
    }

    /// The threads that have run vCPUs of a process, where the kernel says so.
    pub(super) fn vcpu_threads(&self, root: &Root, pid: u32) -> BTreeSet<u32> {
        let vcpus = self.of(pid).flat_map(|machine| vcpus(root, machine));
        vcpus
            .filter_map(|vcpu| {
                let tid = root.text(vcpu.join("pid"));
                tid.known()?.trim().parse().ok().filter(|&tid| tid != 0)
            })
            .collect()
    }
}

fn pid_of(machine: &str) -> Option<u32> {
    let (pid, _file) = machine.split_once('-')?;
    pid.parse().ok()
}

fn vcpus(root: &Root, machine: &str) -> Vec<PathBuf> {
    let path = PathBuf::from(FOLDER).join(machine);
    let is_vcpu = |name: &OsString| {
        let number = name.to_str().and_then(|name| name.strip_prefix("vcpu"));
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let names = root.list(&path).or_default().into_iter().filter(is_vcpu);
    names.map(|name| path.join(name)).take(MOST_VCPUS).collect()
}

/// How often signals have ended runs of vCPUs, while that was counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignalExits {
    /// How long it was counted.
    pub over_ns: u64,
    /// Of each machine.
    pub machines: Vec<ExitsOfMachine>,
}

/// How often signals have ended runs of a machine's vCPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ExitsOfMachine {
    /// The process of its VMM.
    pub pid: u32,
    /// How many vCPUs it has.
    pub vcpus: u32,
    /// How many exits there were, of all of them together.
    pub exits: u64,
}

impl SignalExits {
    /// Counts for 40 ms, if this machine is live and has virtual machines that KVM tells of.
    pub fn read(root: &Root) -> Observed<Self> {
        let look = |root: &Root| Debugfs::look(root).and_then(|machines| sample(root, &machines));
        let answer = root.ask("signal-exits", || root.aside(look));
        answer.find(|text| Self::parse(&text))
    }

    /// A line with the time, and `PID VCPUS EXITS` for each machine.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let over_ns = lines.next()?.parse().ok().filter(|&ns| ns > 0)?;
        let machine = |line: &str| {
            let mut words = line.split_whitespace();
            Some(ExitsOfMachine {
                pid: words.next()?.parse().ok()?,
                vcpus: words.next()?.parse().ok().filter(|&vcpus| vcpus > 0)?,
                exits: words.next()?.parse().ok()?,
            })
        };
        Some(SignalExits {
            over_ns,
            machines: lines.filter_map(machine).take(MOST_MACHINES).collect(),
        })
    }

    /// Of one machine.
    #[must_use]
    pub fn of(&self, pid: u32) -> Option<&ExitsOfMachine> {
        self.machines.iter().find(|machine| machine.pid == pid)
    }
}

/// How often a signal has ended a run, since the machine was made.
fn signal_exits(root: &Root, machine: &str) -> Observed<u64> {
    let count = root.text(PathBuf::from(FOLDER).join(machine).join("signal_exits"));
    count.find(|count| count.trim().parse().ok())
}

fn sample(root: &Root, machines: &[String]) -> Observed<String> {
    let machines = &machines[..machines.len().min(MOST_MACHINES)];
    let count = || machines.iter().map(|machine| signal_exits(root, machine));
    let first: Vec<_> = count().collect();
    if first.iter().all(|count| count.known().is_none()) {
        // A kernel that is locked down (Secure Boot) refuses it even to root.
        let refused = first.into_iter().find(|count| count.is_there().is_none());
        return refused.map_or(Observed::Absent, |count| count.map(|_| String::new()));
    }
    let since = Instant::now();
    thread::sleep(SAMPLED_FOR);
    let second: Vec<_> = count().collect();
    let mut text = since.elapsed().as_nanos().to_string();
    for (machine, (first, second)) in machines.iter().zip(first.into_iter().zip(second)) {
        // One that has ended meanwhile is no news.
        if let (Some(pid), Observed::Is(first), Observed::Is(second)) =
            (pid_of(machine), first, second)
        {
            let vcpus = vcpus(root, machine).len();
            let exits = second.saturating_sub(first);
            text += &format!("\n{pid} {vcpus} {exits}");
        }
    }
    Observed::Is(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_of_a_capture_is_read_back() {
        let exits = SignalExits::parse("40000000\n7 2 40\n8 0 3\nnonsense\n").unwrap();
        assert_eq!(exits.over_ns, 40_000_000);
        let expected = ExitsOfMachine {
            pid: 7,
            vcpus: 2,
            exits: 40,
        };
        assert_eq!((exits.machines.len(), exits.of(7)), (1, Some(&expected)));
        assert_eq!(exits.of(8), None);
        for damaged in ["", "x", "0\n7 2 40"] {
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
