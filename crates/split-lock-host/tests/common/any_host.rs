//! Any bytes as a host's files: no panic, and what is said of them can be written. The fuzz target runs the same.

use std::fs::File;
use std::io::{Cursor, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{MemfdFlags, memfd_create};
use split_lock_host::attribution::{Machines, Owner, TimerSuspects, Traps};
use split_lock_host::{Diagnosis, Facts, Reports, Root};
use split_lock_log::Records;
use split_lock_model::analysis::Thresholds;

/// Plain files, but for some links.
const FILES: &str = "proc/7/stat proc/7/status proc/7/cgroup proc/7/cmdline proc/7/timers proc/7/task/7/comm \
    proc/7/task/8/comm proc/7/fdinfo/4 proc/8/stat proc/8/status proc/1/environ proc/uptime proc/cpuinfo \
    proc/cmdline proc/sys/kernel/osrelease proc/sys/kernel/split_lock_mitigate \
    proc/sys/kernel/dmesg_restrict boot/config-6 etc/os-release run/systemd/container \
    sys/kernel/debug/kvm/7-4/vcpu0/pid splitlock/machines splitlock/signal-exits splitlock/suspended-ns \
    splitlock/refused splitlock/kvm-bus-lock-exit log proc/7/exe proc/7/fd/4 proc/config.gz \
    proc/self/ns/pid";
const LINKS: [&str; 3] = ["proc/7/exe", "proc/7/fd/4", "proc/self/ns/pid"];

/// What is between two files of an input; their first bytes say which ones they are.
pub(crate) const SEPARATOR: u8 = 2;

/// Looks at the host that these bytes make, and panics if something does not hold.
pub(crate) fn check(input: &[u8]) {
    let memory = memfd_create("host", MemfdFlags::CLOEXEC).expect("memory");
    let mut memory = File::from(memory);
    let (archive, log) = packed(input);
    memory.write_all(&archive).expect("memory can be written");
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    let root = Root::open(Path::new(&path)).expect("an archive");
    look(&root, &log);
    look_at_report(input);
}

/// The same bytes as something that was sent of a machine.
fn look_at_report(input: &[u8]) {
    let mut reports = Reports::default();
    if reports
        .add_input("input", Cursor::new(input.to_vec()))
        .is_ok()
    {
        let (_, diagnosis) = Diagnosis::of_reports(reports);
        serde_json::to_string(&diagnosis).expect("it can be written");
    }
}

fn packed(input: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut archive = tar::Builder::new(vec![]);
    let mut log = vec![];
    for file in input.split(|&byte| byte == SEPARATOR) {
        let Some((&number, content)) = file.split_first() else {
            continue;
        };
        let files = || FILES.split(' ');
        let path = files().nth(usize::from(number) % files().count());
        let path = path.expect("a number below their count");
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        // A link without a target, or with a NUL in it, is none.
        let added = if path == "log" {
            log = content.to_owned();
            Ok(())
        } else if LINKS.contains(&path) {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            let target = String::from_utf8_lossy(content).replace('\0', "");
            archive.append_link(&mut header, path, target)
        } else {
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, path, content)
        };
        drop(added);
    }
    (archive.into_inner().expect("memory can be written"), log)
}

fn look(root: &Root, log: &[u8]) {
    let facts = Facts::read(root);
    drop(facts.detection().to_string());
    let machines = Machines::read(root);
    let thresholds = Thresholds::of(&"6.12,hz=250".parse().expect("a kernel")).expect("it sleeps");
    let suspects = TimerSuspects::read(root, &machines.machines, &thresholds);
    for suspect in &suspects.suspects {
        let pid = suspect.pid;
        let is_known = |machine: &split_lock_host::attribution::Machine| machine.process.pid == pid;
        assert!(machines.machines.iter().any(is_known));
    }
    let mut traps = Traps::default();
    for record in Records::new(log) {
        traps.see(&record.expect("memory can be read"));
    }
    let summary = traps.summary();
    let threads = summary.groups.iter().flat_map(|group| &group.threads);
    let mut owners: Vec<_> = threads
        .map(|thread| Owner::of_event(root, thread))
        .collect();
    owners.extend([7, 8].map(|tid| Owner::now(root, tid)));
    for group in &summary.groups {
        let _ = group.suspicion();
    }
    let all = (facts, machines, suspects, summary, owners);
    serde_json::to_string(&all).expect("it can be written");
}
