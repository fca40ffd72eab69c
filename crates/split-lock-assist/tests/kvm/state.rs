//! What KVM says of a vCPU, and what is changed in it.

use kvm_bindings::{KVM_MP_STATE_HALTED, KVM_VCPUEVENT_VALID_SHADOW, kvm_mp_state, kvm_sregs};
use kvm_ioctls::VcpuFd;
use split_lock_assist::cpu::{Context, Cpu, Gpr, Mode, Registers, Segment, SegmentRegister};
use split_lock_assist::emulate::{Emulated, emulate};
use split_lock_assist::guard::Vcpu;
use split_lock_assist::guest_ram::GuestRam;
use split_lock_assist::kvm::{BreakpointSupport, KvmVcpu, KvmVcpuParts};
use split_lock_assist::memory::{Memory, WritePermit};
use split_lock_assist::paging::{PageWalk, PagedMemory};
use split_lock_assist::pause::SingleVcpu;
use vm_memory::bitmap::{AtomicBitmap, Bitmap};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use crate::INCREMENT;
use crate::vm::{CODE, SPLIT, SPLIT_PAGE, TestVm, kvm, long_mode};

/// Where a VMM keeps them is its own affair.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<KvmVcpu>();
};

fn with_parts<T>(
    vcpu: &VcpuFd,
    vm: &TestVm,
    f: impl FnOnce(&mut KvmVcpuParts<'_, GuestRam<'_, GuestMemoryMmap>, SingleVcpu>) -> T,
) -> T {
    let mut vcpu = KvmVcpu::new(vcpu, BreakpointSupport::NONE).unwrap();
    f(&mut vcpu.stopped(GuestRam::new(&vm.memory), &SingleVcpu))
}

fn context(vcpu: &VcpuFd, vm: &TestVm) -> Context {
    with_parts(vcpu, vm, |parts| parts.cpu.context().unwrap())
}

fn has_event(vcpu: &VcpuFd, vm: &TestVm) -> bool {
    with_parts(vcpu, vm, |parts| parts.cpu.has_event().unwrap())
}

fn is_halted(vcpu: &VcpuFd, vm: &TestVm) -> bool {
    with_parts(vcpu, vm, |parts| parts.cpu.is_halted().unwrap())
}

#[test]
fn registers_are_where_they_belong() {
    let Some(kvm) = kvm() else { return };
    let vm = TestVm::new(&kvm, INCREMENT);
    let vcpu = vm.vcpu(0, 3, 0);
    let mut registers = vcpu.get_regs().unwrap();
    (registers.rax, registers.rbx, registers.rcx, registers.rdx) = (1, 2, 3, 4);
    (registers.rsp, registers.r8, registers.r15) = (5, 6, 7);
    vcpu.set_regs(&registers).unwrap();
    let mut seen = with_parts(&vcpu, &vm, |parts| parts.cpu.registers().unwrap());
    let expected = [
        (Gpr::Rax, 1),
        (Gpr::Rbx, 2),
        (Gpr::Rcx, 3),
        (Gpr::Rdx, 4),
        (Gpr::Rsp, 5),
        (Gpr::Rsi, SPLIT),
        (Gpr::R8, 6),
        (Gpr::R15, 7),
    ];
    for (register, value) in expected {
        assert_eq!(seen.get(register), value, "{register:?}");
    }
    assert_eq!((seen.rip, seen.rflags), (CODE, registers.rflags));

    for (value, register) in (100..).zip(Gpr::ALL) {
        seen.set(register, value);
    }
    seen.rip = CODE + 4;
    let back: Registers = with_parts(&vcpu, &vm, |parts| {
        parts.cpu.retire(&seen).unwrap();
        parts.cpu.registers().unwrap()
    });
    assert_eq!(back, seen);
    let fresh = with_parts(&vcpu, &vm, |parts| parts.cpu.registers().unwrap());
    assert_eq!(fresh, seen);
}

#[test]
fn the_mode_and_the_level_are_those_of_the_guest() {
    let Some(kvm) = kvm() else { return };
    let vm = TestVm::new(&kvm, INCREMENT);
    for cpl in [0, 3] {
        let vcpu = vm.vcpu(u64::from(cpl), cpl, 0);
        let context = context(&vcpu, &vm);
        assert_eq!((context.mode, context.cpl), (Mode::Bits64, cpl));
        assert!(context.protected && !context.alignment_mask && !context.five_level_paging);
        assert!(context.segment(SegmentRegister::Ds).writable);
        assert!(!context.segment(SegmentRegister::Cs).writable);
    }
    let vcpu = vm.vcpu(5, 0, 0);
    let mut special = vcpu.get_sregs().unwrap();
    // 32-bit mode without paging, and a stack that expands down.
    (special.cr0, special.efer, special.cr4) = (0x31, 0, 0);
    (special.cs.l, special.cs.db) = (0, 1);
    (special.ss.type_, special.ss.limit) = (0b0111, 0xfff);
    special.fs.unusable = 1;
    special.fs.present = 0;
    vcpu.set_sregs(&special).unwrap();
    let seen = context(&vcpu, &vm);
    assert_eq!((seen.mode, seen.cpl), (Mode::Bits32, 0));
    assert!(seen.segment(SegmentRegister::Ss).expand_down);
    assert!(!seen.segment(SegmentRegister::Fs).usable);
    special.cs.db = 0;
    vcpu.set_sregs(&special).unwrap();
    assert_eq!(context(&vcpu, &vm).mode, Mode::Bits16);
}

#[test]
fn a_vcpu_that_was_just_switched_on_is_in_real_mode() {
    let Some(kvm) = kvm() else { return };
    let vm = TestVm::new(&kvm, INCREMENT);
    let vcpu = vm.untouched_vcpu(0);
    let context = context(&vcpu, &vm);
    assert_eq!((context.mode, context.cpl), (Mode::Bits16, 0));
    assert!(!context.protected);
    let code = context.segment(SegmentRegister::Cs);
    let expected = Segment {
        base: 0xffff_0000,
        limit: 0xffff,
        usable: true,
        writable: true,
        expand_down: false,
        big: false,
    };
    assert_eq!(code, expected);
}

#[test]
fn the_guests_breakpoints_are_seen() {
    let Some(kvm) = kvm() else { return };
    let vm = TestVm::new(&kvm, INCREMENT);
    let vcpu = vm.vcpu(0, 0, 0);
    assert!(!context(&vcpu, &vm).breakpoints);
    let mut own = vcpu.get_debug_regs().unwrap();
    own.dr7 = 0x401;
    vcpu.set_debug_regs(&own).unwrap();
    assert!(context(&vcpu, &vm).breakpoints);
}

#[test]
fn an_emulated_instruction_ends_the_shadow_of_sti() {
    let Some(kvm) = kvm() else { return };
    let vm = TestVm::new(&kvm, INCREMENT);
    let vcpu = vm.vcpu(0, 0, 1);
    let mut events = vcpu.get_vcpu_events().unwrap();
    events.interrupt.shadow = 1;
    events.flags = KVM_VCPUEVENT_VALID_SHADOW;
    vcpu.set_vcpu_events(&events).unwrap();
    assert_ne!(vcpu.get_vcpu_events().unwrap().interrupt.shadow, 0);
    let emulated = with_parts(&vcpu, &vm, |parts| {
        assert!(!parts.cpu.has_event().unwrap());
        emulate(&mut parts.cpu, &mut parts.memory, parts.others).unwrap()
    });
    assert!(matches!(emulated, Emulated::Done(_)), "{emulated:?}");
    assert_eq!(vcpu.get_vcpu_events().unwrap().interrupt.shadow, 0);
    assert_eq!(vcpu.get_regs().unwrap().rip, CODE + 4);
    assert_eq!(vm.word(SPLIT), 1);
}

/// Whoever migrates the VM has to know.
#[test]
fn everything_that_is_written_is_marked_as_dirty() {
    const BYTES: usize = 2 << 20;
    const PAGE_TABLE: u64 = 0x4000;
    const ACCESSED_AND_DIRTY: u64 = 0x60;
    let Some(kvm) = kvm() else { return };
    let vm = TestVm::new(&kvm, INCREMENT);
    let vcpu = vm.vcpu(0, 0, 1);
    let mut registers = vcpu.get_regs().unwrap();
    registers.rsi = SPLIT_PAGE;
    vcpu.set_regs(&registers).unwrap();
    let second = PAGE_TABLE + 8 * (SPLIT_PAGE / 4096 + 1);
    vm.set_words(second, &[vm.word(second) & !ACCESSED_AND_DIRTY]);

    let memory: GuestMemoryMmap<AtomicBitmap> =
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), BYTES)]).unwrap();
    let mut contents = vec![0; BYTES];
    vm.memory
        .read_slice(&mut contents, GuestAddress(0))
        .unwrap();
    memory.write_slice(&contents, GuestAddress(0)).unwrap();
    let mapping = memory.iter().next().unwrap().get_mmap();
    mapping.bitmap().reset();
    let mut kvm = KvmVcpu::new(&vcpu, BreakpointSupport::NONE).unwrap();
    let mut parts = kvm.stopped(GuestRam::new(&memory), &SingleVcpu);
    let emulated = emulate(&mut parts.cpu, &mut parts.memory, parts.others).unwrap();
    assert!(matches!(emulated, Emulated::Done(_)), "{emulated:?}");
    let dirty = (0..BYTES)
        .step_by(4096)
        .filter(|&at| mapping.bitmap().dirty_at(at));
    let first_page = SPLIT_PAGE as usize & !0xfff;
    let expected = [PAGE_TABLE as usize, first_page, first_page + 4096];
    assert_eq!(dirty.collect::<Vec<_>>(), expected);
    let marked: u64 = memory.read_obj(GuestAddress(second)).unwrap();
    assert_eq!(marked & ACCESSED_AND_DIRTY, ACCESSED_AND_DIRTY);
}

/// For a vCPU whose privilege level is not the one that counts, and memory that is not where its
/// own addresses say.
#[test]
fn page_tables_can_be_walked_without_a_vcpu() {
    const START: u64 = 1 << 30;
    let Some(kvm) = kvm() else { return };
    let vm = TestVm::new(&kvm, INCREMENT);
    for table in [0x1000, 0x2000, 0x3000] {
        vm.set_words(table, &[vm.word(table) + START]);
    }
    let pages: Vec<u64> = (0..512).map(|page| (START + (page << 12)) | 0x67).collect();
    vm.set_words(0x4000, &pages);
    vm.set_words(SPLIT, &[7]);
    let special = long_mode(kvm_sregs::default(), 0);
    let walk = PageWalk {
        cr0: special.cr0,
        cr3: special.cr3 + START,
        cr4: special.cr4,
        efer: special.efer,
        cpl: 3,
        rflags: 2,
    };
    let ram = GuestRam::new(&vm.memory).starting_at(START);
    let mut memory = PagedMemory::new(walk, ram);
    let mut bytes = [0; 8];
    let permit = memory.load_for_update(SPLIT, &mut bytes).unwrap();
    assert_eq!(u64::from_le_bytes(bytes), 7);
    permit.store(&8u64.to_le_bytes());
    assert_eq!(vm.word(SPLIT), 8);
}

#[test]
fn an_exception_that_is_about_to_be_delivered_is_seen() {
    let Some(kvm) = kvm() else { return };
    let vm = TestVm::new(&kvm, INCREMENT);
    let vcpu = vm.vcpu(0, 0, 1);
    let mut events = vcpu.get_vcpu_events().unwrap();
    (events.exception.injected, events.exception.nr) = (1, 6);
    vcpu.set_vcpu_events(&events).unwrap();
    assert!(has_event(&vcpu, &vm));
}

#[test]
fn halting_is_seen_where_kvm_has_the_interrupt_controller() {
    let Some(kvm) = kvm() else { return };
    let vm = TestVm::with_irqchip(&kvm, INCREMENT);
    let vcpu = vm.vcpu(0, 0, 1);
    assert!(!is_halted(&vcpu, &vm));
    let halted = kvm_mp_state {
        mp_state: KVM_MP_STATE_HALTED,
    };
    vcpu.set_mp_state(halted).unwrap();
    assert!(is_halted(&vcpu, &vm));
}
