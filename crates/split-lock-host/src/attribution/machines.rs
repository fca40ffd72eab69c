//! All virtual machines on a host.

use std::collections::BTreeSet;

use serde::Serialize;

use super::process::{Process, command_line};
use super::program::Program;
use super::vm::{Vm, Vmm};
use super::{kvm, text};
use crate::{Observed, Root};

const MOST_PROCESSES: usize = 1 << 15;

/// Of a process that is not known by its name no more open files are looked at,
const MOST_FILES: usize = 64;

/// and no more than this in all.
const MOST_FILES_IN_ALL: usize = 4096;
const MOST_THREADS: usize = 2048;

/// What an open virtual machine of KVM is a link to.
const VM_FILE: &str = "anon_inode:kvm-vm";

/// The virtual machines on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machines {
    /// By process id.
    pub machines: Vec<Machine>,
    /// Processes of unknown programs that may not be looked into, or that there was no time for. Only those that
    /// can be known by their command lines are in the list above.
    pub not_looked_into: u32,
}

/// A virtual machine that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The machine.
    pub vm: Vm,
    /// The process that runs it.
    pub process: Process,
    /// Its vCPUs, as far as their threads can be told from others.
    pub vcpus: Vec<Vcpu>,
}

/// A thread that runs a guest's code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vcpu {
    /// Its id.
    pub tid: u32,
    /// Its name.
    pub comm: String,
}

impl Machines {
    /// Looks for them.
    ///
    /// ```
    /// use split_lock_host::Root;
    /// use split_lock_host::attribution::Machines;
    ///
    /// for machine in Machines::read(&Root::live()?).machines {
    ///     println!("{:?}, process {}", machine.vm.name, machine.process.pid);
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn read(root: &Root) -> Self {
        // A capture has no need for the names and files of all other processes.
        let found = root.ask("machines", || {
            Observed::Is(root.aside(Candidates::find).text())
        });
        let candidates = match found {
            Observed::Is(text) => Candidates::parse(&text),
            _ => Candidates::find(root),
        };
        let debugfs = kvm::Debugfs::read(root);
        let machines = candidates.pids.iter();
        Machines {
            machines: machines
                .filter_map(|&pid| Machine::read(root, pid, &debugfs))
                .collect(),
            not_looked_into: candidates.not_looked_into,
        }
    }
}

impl Machine {
    fn read(root: &Root, pid: u32, debugfs: &kvm::Debugfs) -> Option<Self> {
        let process = Process::read(root, pid).known()?.clone();
        let vm = process.vm.clone().unwrap_or_else(|| Vm::of(Vmm::Other));
        let vcpus = vcpus(root, &process, debugfs);
        // A program can be there without a machine, or be a helper of the one that has it.
        let has_none = vcpus.is_empty() && vm.vmm.names_vcpus();
        (!has_none).then_some(Machine { vm, process, vcpus })
    }

    /// Its vCPU with this thread.
    #[must_use]
    pub fn vcpu(&self, tid: u32) -> Option<&Vcpu> {
        self.vcpus.iter().find(|vcpu| vcpu.tid == tid)
    }
}

/// By their names, or because KVM says so, or because there is only one thread.
fn vcpus(root: &Root, process: &Process, debugfs: &kvm::Debugfs) -> Vec<Vcpu> {
    let pid = process.pid;
    let by_kvm = debugfs.vcpu_threads(root, pid);
    let tids = numbers_in(root, format!("proc/{pid}/task"), MOST_THREADS);
    let mut vcpus = vec![];
    for &tid in &tids {
        let comm = root
            .read(format!("proc/{pid}/task/{tid}/comm"))
            .or_default();
        let comm = comm.trim_ascii_end();
        let is_named = Program::of(comm).kind.is_vcpu();
        if is_named || by_kvm.contains(&tid) || tids.len() == 1 {
            let comm = text::string(comm);
            vcpus.push(Vcpu { tid, comm });
        }
    }
    vcpus
}

fn numbers_in(root: &Root, folder: String, most: usize) -> Vec<u32> {
    let names = root.list(folder).or_default().into_iter();
    let numbers = names.filter_map(|name| name.to_str()?.parse().ok());
    numbers.take(most).collect()
}

/// Processes that run a virtual machine, or look like it.
#[derive(Debug, Default)]
struct Candidates {
    pids: BTreeSet<u32>,
    not_looked_into: u32,
}

impl Candidates {
    fn find(root: &Root) -> Self {
        let mut found = Candidates::default();
        let mut files_left = MOST_FILES_IN_ALL;
        let by_kvm = kvm::Debugfs::read(root);
        let may_have_one_open = !by_kvm.is_seen() && may_have_kvm(root);
        for pid in numbers_in(root, "proc".into(), MOST_PROCESSES) {
            let words = command_line(root, pid).or_default();
            // A thread of the kernel's has no command line.
            if words.is_empty() {
                continue;
            }
            if by_kvm.has(pid) || Vm::of_command_line(&words).is_some() {
                found.pids.insert(pid);
                continue;
            }
            if !may_have_one_open {
                continue;
            }
            match has_machine_open(root, pid, &mut files_left) {
                Some(true) => drop(found.pids.insert(pid)),
                Some(false) => {}
                None => found.not_looked_into += 1,
            }
        }
        found
    }

    fn text(&self) -> String {
        let pids: Vec<_> = self.pids.iter().map(u32::to_string).collect();
        format!("{} {}", self.not_looked_into, pids.join(" "))
    }

    fn parse(text: &str) -> Self {
        let mut numbers = text.split_whitespace().map_while(|word| word.parse().ok());
        Candidates {
            not_looked_into: numbers.next().unwrap_or(0),
            pids: numbers.take(MOST_PROCESSES).collect(),
        }
    }
}

fn may_have_kvm(root: &Root) -> bool {
    let is_there = |path: &str| root.has(path).is_there();
    is_there("sys/module/kvm") != Some(false) || is_there("sys/module") != Some(true)
}

/// `None` if that cannot be seen.
fn has_machine_open(root: &Root, pid: u32, files_left: &mut usize) -> Option<bool> {
    let files = match root.list(format!("proc/{pid}/fd")) {
        Observed::Is(files) => files,
        Observed::Absent => return Some(false),
        Observed::Unreadable { .. } => return None,
    };
    for file in files.iter().take(MOST_FILES) {
        *files_left = files_left.checked_sub(1)?;
        let target = root.link(format!("proc/{pid}/fd/{}", file.to_str()?));
        if target.or_default().as_os_str() == VM_FILE {
            return Some(true);
        }
    }
    Some(false)
}
