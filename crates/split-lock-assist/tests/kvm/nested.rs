//! A guest that is a hypervisor itself, on SVM.

use kvm_bindings::{Msrs, kvm_msr_entry, kvm_regs};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use split_lock_assist::guard::{Inaccessible, VcpuProgress};
use split_lock_assist::kvm::{BreakpointSupport, KvmVcpu};
use split_lock_assist::pause::SingleVcpu;

use crate::vm::{SPLIT, STACK, TestVm, kvm, long_mode};
use crate::{emulating, punish, stalled_run};

/// `vmrun rax; hlt`
const HYPERVISOR: &[u8] = &[0x0f, 0x01, 0xd8, 0xf4];

/// `out 0x10,al; lock inc qword ptr [rsi]; hlt`
const NESTED: &[u8] = &[0xe6, 0x10, 0xf0, 0x48, 0xff, 0x06, 0xf4];
const NESTED_CODE: u64 = 0x1_4000;

const CONTROL_BLOCK: u64 = 0x5_0000;
const HOST_SAVE: u64 = 0x5_1000;

const EFER_SVM: u64 = 1 << 12;
const MSR_HOST_SAVE: u32 = 0xc001_0117;

/// CPUID 0x80000001, ECX.
const SVM: u32 = 1 << 2;

/// Says why a machine without it is of no use.
fn has_nested_svm(kvm: &Kvm) -> bool {
    let cpuid = kvm.get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES);
    let cpuid = cpuid.unwrap();
    let has = cpuid
        .as_slice()
        .iter()
        .any(|leaf| leaf.function == 0x8000_0001 && leaf.ecx & SVM != 0);
    if !has {
        eprintln!("skipped: KVM has no nested SVM here");
    }
    has
}

/// Fills in the state that the nested guest starts with: that of its hypervisor, elsewhere in the code.
fn prepare_control_block(vm: &TestVm, vcpu: &VcpuFd) {
    const INTERCEPT_VMRUN: u64 = 0x10;
    const ADDRESS_SPACE: u64 = 0x58;
    let special = vcpu.get_sregs().unwrap();
    vm.write(CONTROL_BLOCK + INTERCEPT_VMRUN, &1u32.to_le_bytes());
    vm.write(CONTROL_BLOCK + ADDRESS_SPACE, &1u32.to_le_bytes());
    let segments = [
        (0x400, special.es),
        (0x410, special.cs),
        (0x420, special.ss),
        (0x430, special.ds),
        (0x490, special.tr),
    ];
    for (offset, segment) in segments {
        let flags = u16::from(segment.type_)
            | u16::from(segment.s) << 4
            | u16::from(segment.dpl) << 5
            | u16::from(segment.present) << 7
            | u16::from(segment.l) << 9
            | u16::from(segment.db) << 10
            | u16::from(segment.g) << 11;
        let at = CONTROL_BLOCK + offset;
        vm.write(at, &segment.selector.to_le_bytes());
        vm.write(at + 2, &flags.to_le_bytes());
        vm.write(at + 4, &segment.limit.to_le_bytes());
        vm.write(at + 8, &segment.base.to_le_bytes());
    }
    for (offset, table) in [(0x460, special.gdt), (0x480, special.idt)] {
        let at = CONTROL_BLOCK + offset;
        vm.write(at + 4, &u32::from(table.limit).to_le_bytes());
        vm.write(at + 8, &table.base.to_le_bytes());
    }
    let words = [
        (0x4d0, special.efer),
        (0x548, special.cr4),
        (0x550, special.cr3),
        (0x558, special.cr0),
        (0x560, 0x400),
        (0x568, 0xffff_0ff0),
        (0x570, 2),
        (0x578, NESTED_CODE),
        (0x5d8, STACK),
    ];
    for (offset, word) in words {
        vm.set_words(CONTROL_BLOCK + offset, &[word]);
    }
}

/// A vCPU that stands at the split lock of its nested guest.
fn vcpu_in_nested_guest(vm: &TestVm) -> VcpuFd {
    let mut vcpu = vm.untouched_vcpu(0);
    let mut special = long_mode(vcpu.get_sregs().unwrap(), 0);
    special.efer |= EFER_SVM;
    vcpu.set_sregs(&special).unwrap();
    let host_save = kvm_msr_entry {
        index: MSR_HOST_SAVE,
        data: HOST_SAVE,
        ..Default::default()
    };
    let set = vcpu.set_msrs(&Msrs::from_entries(&[host_save]).unwrap());
    assert_eq!(set.unwrap(), 1);
    prepare_control_block(vm, &vcpu);
    let registers = kvm_regs {
        rip: crate::vm::CODE,
        rflags: 2,
        rax: CONTROL_BLOCK,
        rsi: SPLIT,
        ..kvm_regs::default()
    };
    vcpu.set_regs(&registers).unwrap();
    let exit = vcpu.run().unwrap();
    assert!(matches!(exit, VcpuExit::IoOut(0x10, _)), "{exit:?}");
    // Completes the port write, and no more.
    vcpu.set_kvm_immediate_exit(1);
    vcpu.run().unwrap_err();
    vcpu.set_kvm_immediate_exit(0);
    assert_eq!(vcpu.get_regs().unwrap().rip, NESTED_CODE + 2);
    vcpu
}

/// Its page tables are its own, and lead anywhere in the memory of its hypervisor.
#[test]
fn a_nested_guest_is_left_alone() {
    let Some(kvm) = kvm() else { return };
    if !has_nested_svm(&kvm) {
        return;
    }
    let vm = TestVm::new(&kvm, HYPERVISOR);
    vm.write(NESTED_CODE, NESTED);
    let fd = vcpu_in_nested_guest(&vm);
    let mut vcpu = KvmVcpu::new(&fd, BreakpointSupport::NONE).unwrap();
    let mut guard = emulating();
    for _ in 0..4 {
        let progress = stalled_run(&mut guard, &mut vcpu, &vm, &SingleVcpu);
        let expected = VcpuProgress::Inaccessible(Inaccessible::NestedGuest);
        assert_eq!(progress, expected);
        punish();
    }
    assert_eq!(vm.word(SPLIT), 0);
    assert_eq!(fd.get_regs().unwrap().rip, NESTED_CODE + 2);
}
