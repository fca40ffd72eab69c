//! Virtual machines of a host.

use split_lock_host::attribution::{Machines, Manager, Vmm};

use crate::Host;

fn summary(host: &Host) -> Vec<(u32, Vmm, Option<String>, Vec<u32>)> {
    let machines = Machines::read(&host.root()).machines.into_iter();
    let told = machines.map(|machine| {
        let vcpus = machine.vcpus.iter().map(|vcpu| vcpu.tid).collect();
        let name = machine.vm.name.or(machine.vm.id).or(machine.vm.uuid);
        (machine.process.pid, machine.vm.vmm, name, vcpus)
    });
    told.collect()
}

#[test]
fn every_kind_of_machine_is_found_among_other_processes() {
    let host = Host::new();
    host.process(2, "kthreadd", &[], "0::/\n");
    host.process(50, "bash", &["-bash"], "0::/user.slice\n");
    for (pid, words, vcpu) in [
        (100, &["qemu-system-x86_64", "-name", "a"][..], "CPU 0/KVM"),
        (110, &["firecracker", "--id", "b"], "fc_vcpu 0"),
        (120, &["cloud-hypervisor", "--api-socket", "/c"], "vcpu0"),
        (130, &["crosvm", "run", "--name", "d"], "crosvm_vcpu0"),
        (
            140,
            &["/usr/lib/virtualbox/VBoxHeadless", "--startvm", "e"],
            "EMT-0",
        ),
        (
            150,
            &["/usr/lib/vmware/bin/vmware-vmx", "/f.vmx"],
            "vmx-vcpu-0",
        ),
    ] {
        host.process(pid, words[0], words, "0::/\n");
        host.thread(pid, pid + 1, vcpu);
        host.thread(pid, pid + 2, "other");
    }
    // A helper of crosvm's, and Cloud Hypervisor before it has a machine.
    host.process(
        160,
        "pcivirtio-blk",
        &["crosvm", "run", "--name", "d"],
        "0::/\n",
    );
    host.process(
        170,
        "cloud-hyperviso",
        &["cloud-hypervisor", "--api-socket", "/g"],
        "0::/\n",
    );
    host.thread(170, 171, "vmm");
    host.thread(160, 161, "pcivirtio-blk");
    let name = |name: &str| Some(name.to_owned());
    assert_eq!(
        summary(&host),
        [
            (100, Vmm::Qemu, name("a"), vec![101]),
            (110, Vmm::Firecracker, name("b"), vec![111]),
            (120, Vmm::CloudHypervisor, name("/c"), vec![121]),
            (130, Vmm::Crosvm, name("d"), vec![131]),
            (140, Vmm::VirtualBox, name("e"), vec![141]),
            (150, Vmm::Vmware, name("f"), vec![151]),
        ]
    );
}

#[test]
fn an_unknown_program_is_known_by_what_it_has_open() {
    let host = Host::new();
    for pid in [200, 210, 220] {
        host.process(pid, "vmm", &["./vmm"], "0::/\n");
    }
    host.link("proc/200/fd/3", "/dev/kvm");
    host.link("proc/200/fd/4", "anon_inode:kvm-vm");
    host.link("proc/210/fd/4", "/dev/kvm");
    host.file("splitlock/refused", "proc/220/fd\tPermission denied\n");
    // Its only thread must be the vCPU.
    assert_eq!(summary(&host), [(200, Vmm::Other, None, vec![200])]);
    assert_eq!(Machines::read(&host.root()).not_looked_into, 1);
    // With more threads only KVM can tell.
    host.thread(200, 201, "x");
    assert_eq!(summary(&host), [(200, Vmm::Other, None, vec![])]);
    host.file("sys/kernel/debug/kvm/200-4/vcpu0/pid", "201\n");
    host.file("sys/kernel/debug/kvm/exits", "5\n");
    assert_eq!(summary(&host), [(200, Vmm::Other, None, vec![201])]);
    // Then nobody's files need to be looked at.
    assert_eq!(Machines::read(&host.root()).not_looked_into, 0);
}

#[test]
fn without_kvm_nobodys_files_are_looked_at() {
    let host = Host::new();
    host.process(200, "vmm", &["./vmm"], "0::/\n");
    host.link("proc/200/fd/4", "anon_inode:kvm-vm");
    host.file("sys/module/ext4/x", "");
    assert_eq!(summary(&host), []);
    host.file("sys/module/kvm/x", "");
    assert_eq!(summary(&host).len(), 1);
}

#[test]
fn managers_are_known_by_their_cgroups() {
    let host = Host::new();
    host.process(300, "kvm", &["/usr/bin/kvm"], "0::/qemu.slice/105.scope\n");
    host.process(
        310,
        "qemu-system-x86",
        &["/usr/bin/qemu-system-x86_64"],
        "0::/machine.slice/machine-qemu\\x2d1\\x2dwin.scope/libvirt/emulator\n",
    );
    let machines = Machines::read(&host.root()).machines;
    assert_eq!(machines[0].vm.manager, Some(Manager::Proxmox));
    assert_eq!(machines[0].vm.id.as_deref(), Some("105"));
    assert_eq!(machines[1].vm.manager, Some(Manager::Libvirt));
    assert_eq!(machines[1].vm.name.as_deref(), Some("win"));
}

#[test]
fn a_capture_says_which_processes_were_machines() {
    let host = Host::new();
    host.process(100, "vmm", &["./vmm"], "0::/\n");
    host.process(200, "other", &["qemu-system-x86_64"], "0::/\n");
    host.file("splitlock/machines", "3 100 999");
    assert_eq!(summary(&host), [(100, Vmm::Other, None, vec![100])]);
    assert_eq!(Machines::read(&host.root()).not_looked_into, 3);
}
