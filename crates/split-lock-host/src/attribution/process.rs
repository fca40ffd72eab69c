//! A process: what it runs, since when, and what it is in.

use std::time::Duration;

use serde::Serialize;

use super::cgroup::{CgroupInfo, Container};
use super::text;
use super::thread::{Stat, Status};
use super::vm::{Manager, Vm, Vmm};
use crate::{Observed, Root};

const MOST_BYTES: usize = 64 << 10;

/// A process that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// The name of its first thread.
    pub comm: String,
    /// The file that it runs. Only its user and root may see that.
    pub exe: Observed<String>,
    /// Its command line, empty for a thread of the kernel's.
    pub command_line: Observed<Vec<String>>,
    /// When it started, since the machine did (suspended time included).
    #[serde(rename = "started_uptime_s", serialize_with = "text::seconds")]
    pub started: Option<Duration>,
    /// Its effective user.
    pub user: Option<u32>,
    /// How many threads it has.
    pub threads: Option<u32>,
    /// The virtual machine that it runs.
    pub vm: Option<Vm>,
    /// The container that it is in.
    pub container: Option<Container>,
    /// The unit of systemd that it belongs to: `libvirtd.service`.
    pub unit: Option<String>,
}

impl Process {
    /// The process of this id; absent if there is none, or its id is that of another thread only.
    pub fn read(root: &Root, pid: u32) -> Observed<Self> {
        let status = Status::read(root, pid);
        let own = status.find(|status| (status.pid == pid).then_some(status));
        own.map(|status| Self::with_status(root, pid, status))
    }

    fn with_status(root: &Root, pid: u32, status: Status) -> Self {
        let stat = Stat::read(root, pid);
        let stat = stat.known();
        let place = CgroupInfo::read(root, pid).or_default();
        let command_line = command_line(root, pid);
        let words = command_line.known().map_or(&[][..], Vec::as_slice);
        let exe = root.link(format!("proc/{pid}/exe"));
        Process {
            pid,
            comm: stat.map_or_else(String::new, |stat| text::string(&stat.comm)),
            exe: exe.map(|path| path.to_string_lossy().into_owned()),
            started: stat.map(|stat| stat.started),
            user: status.user,
            threads: status.threads,
            vm: vm(words, &place),
            container: place.container,
            unit: place.unit,
            command_line,
        }
    }
}

/// What its manager has left in the cgroup's path is taken where the command line tells nothing.
fn vm(command_line: &[String], place: &CgroupInfo) -> Option<Vm> {
    let by_manager = place.libvirt_name.is_some() || place.proxmox_id.is_some();
    let vm = Vm::of_command_line(command_line);
    let mut vm = vm.or_else(|| by_manager.then(|| Vm::of(Vmm::Qemu)))?;
    if let Some(name) = &place.libvirt_name {
        vm.manager.get_or_insert(Manager::Libvirt);
        vm.name.get_or_insert_with(|| name.clone());
    }
    if let Some(id) = &place.proxmox_id {
        vm.manager.get_or_insert(Manager::Proxmox);
        vm.id.get_or_insert_with(|| id.clone());
    }
    Some(vm)
}

pub(super) fn command_line(root: &Root, pid: u32) -> Observed<Vec<String>> {
    let bytes = root.read(format!("proc/{pid}/cmdline"));
    bytes.map(|bytes| {
        let bytes = &bytes[..bytes.len().min(MOST_BYTES)];
        let words = bytes.strip_suffix(b"\0").unwrap_or(bytes);
        match words {
            [] => vec![],
            words => words.split(|&byte| byte == 0).map(text::string).collect(),
        }
    })
}
