//! From thread ids to processes.

use std::time::Duration;

use split_lock_host::attribution::{Engine, Manager, Owner, Thread, Traps};
use split_lock_log::Records;

use crate::Host;

/// The thread of a log's last line.
fn thread(log: &str) -> Thread {
    let mut traps = Traps::default();
    for record in Records::new(log.as_bytes()) {
        traps.see(&record.unwrap());
    }
    let mut groups = traps.summary().groups;
    groups.pop().unwrap().threads.pop().unwrap()
}

/// The owner of the thread of one line.
fn owner(host: &Host, uptime: u32, comm: &str, tid: u32) -> Owner {
    Owner::of_event(&host.root(), &thread(&line(uptime, comm, tid)))
}

fn line(uptime: u32, comm: &str, tid: u32) -> String {
    format!(
        "[{uptime}.0] x86/split lock detection: #AC: {comm}/{tid} took a split_lock trap at address: \
         0x5123\n"
    )
}

fn with_a_machine() -> Host {
    let host = Host::new();
    host.process(
        700,
        "qemu-system-x86",
        &[
            "/usr/bin/qemu-system-x86_64",
            "-name",
            "guest=win,debug-threads=on",
        ],
        "0::/machine.slice/machine-qemu\\x2d1\\x2dwin.scope/libvirt/emulator\n",
    );
    host.thread(700, 705, "CPU 0/KVM");
    host
}

fn process(owner: Owner) -> split_lock_host::attribution::Process {
    match owner {
        Owner::Lives { process, .. } => *process,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_vcpus_thread_leads_to_its_machine() {
    let host = with_a_machine();
    host.link("proc/700/exe", "/usr/bin/qemu-system-x86_64");
    let process = process(owner(&host, 500, "CPU 0/KVM", 705));
    assert_eq!((process.pid, &process.comm[..]), (700, "qemu-system-x86"));
    assert_eq!(process.started, Some(Duration::from_secs(100)));
    assert_eq!(process.exe.known().unwrap(), "/usr/bin/qemu-system-x86_64");
    let vm = process.vm.unwrap();
    assert_eq!(
        (vm.name.as_deref(), vm.manager),
        (Some("win"), Some(Manager::Libvirt))
    );
    assert_eq!(process.container, None);
    assert_eq!(process.unit.as_deref(), Some("machine-qemu-1-win.scope"));
}

#[test]
fn a_programs_thread_leads_to_its_container() {
    let host = Host::new();
    let id = "3f4e8a1b2c3d".repeat(4);
    host.process(
        800,
        "game",
        &["./game"],
        &format!("0::/system.slice/docker-{id}.scope\n"),
    );
    host.thread(800, 801, "worker");
    let owner = Owner::now(&host.root(), 801);
    let json = serde_json::to_value(&owner).unwrap();
    assert_eq!(
        (&json["state"], &json["comm"]),
        (&"lives".into(), &"worker".into())
    );
    assert_eq!(json["process"]["container"]["engine"], "docker");
    let container = process(owner).container.unwrap();
    assert_eq!((container.engine, container.id), (Engine::Docker, id));
}

#[test]
fn what_is_gone_is_not_found() {
    let host = with_a_machine();
    assert_eq!(owner(&host, 500, "CPU 3/KVM", 708), Owner::Gone);
    assert_eq!(Owner::now(&host.root(), 708), Owner::Gone);
}

#[test]
fn a_later_thread_of_the_same_id_is_not_blamed() {
    let host = with_a_machine();
    let root = host.root();
    // The process started after 100 s.
    assert_eq!(owner(&host, 90, "CPU 0/KVM", 705), Owner::Reused);
    assert_eq!(owner(&host, 500, "CPU 1/KVM", 705), Owner::Reused);
    // Clocks are not that exact.
    process(owner(&host, 99, "CPU 0/KVM", 705));
    // A line without a time.
    let line = line(90, "CPU 0/KVM", 705);
    let without_time = thread(line.split_once("] ").unwrap().1);
    process(Owner::of_event(&root, &without_time));
    // The kernel has cut the name off, and somebody has restored it.
    process(owner(&host, 500, "qemu-system-x86_64", 700));
}

#[test]
fn time_that_the_machine_was_suspended_is_taken_into_account() {
    let host = with_a_machine();
    host.file("splitlock/suspended-ns", "60000000000");
    // The log's clock may have stood still for a minute before the process started, or after.
    process(owner(&host, 50, "CPU 0/KVM", 705));
    assert_eq!(owner(&host, 30, "CPU 0/KVM", 705), Owner::Reused);
}

#[test]
fn another_boot_has_other_threads() {
    let host = with_a_machine();
    host.file("proc/uptime", "1000.50 2000.00\n");
    let later_than_now = owner(&host, 1100, "CPU 0/KVM", 705);
    assert_eq!(later_than_now, Owner::EarlierBoot);
    process(owner(&host, 1001, "CPU 0/KVM", 705));
    let log = line(500, "CPU 0/KVM", 705) + "[    0.000000] Linux version 6.6.1 (x@y) #1 SMP\n";
    let before_last_start = Owner::of_event(&host.root(), &thread(&log));
    assert_eq!(before_last_start, Owner::EarlierBoot);
}

#[test]
fn what_cannot_be_seen_is_not_said_to_be_gone() {
    let why = |owner| match owner {
        Owner::Unreadable { path, why } => format!("{}: {why}", path.display()),
        other => panic!("{other:?}"),
    };
    let told_of = |host: &Host| why(owner(host, 500, "CPU 0/KVM", 705));
    // With hidepid=2 not even the first process is there.
    let empty = Host(tempfile::tempdir().unwrap());
    let told = told_of(&empty);
    assert!(
        told.contains("/proc/705") && told.contains("hidepid"),
        "{told}"
    );
    // With hidepid=1 it is there, and cannot be read.
    let host = with_a_machine();
    host.file(
        "splitlock/refused",
        "proc/705/stat\tOperation not permitted\n",
    );
    let told = told_of(&host);
    assert!(told.contains("not permitted"), "{told}");
    // In a container thread ids mean something else.
    host.link("proc/self/ns/pid", "pid:[4026532000]");
    let told = told_of(&host);
    assert!(told.contains("container"), "{told}");
    process(Owner::now(&host.root(), 700));
}
