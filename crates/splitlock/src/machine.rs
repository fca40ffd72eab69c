//! What people call a virtual machine.

use split_lock_host::who::{Vm, Vmm};

/// The best of its names, if it has one.
pub(crate) fn name(vm: &Vm) -> Option<&str> {
    let names = [&vm.name, &vm.id, &vm.uuid];
    names.into_iter().flatten().next().map(String::as_str)
}

pub(crate) fn vmm(vmm: Vmm) -> &'static str {
    match vmm {
        Vmm::Qemu => "QEMU",
        Vmm::Firecracker => "Firecracker",
        Vmm::CloudHypervisor => "Cloud Hypervisor",
        Vmm::Crosvm => "crosvm",
        Vmm::VirtualBox => "VirtualBox",
        Vmm::Vmware => "VMware",
        Vmm::Kvmtool => "kvmtool",
        Vmm::Other => "a VMM that is not known here",
    }
}
