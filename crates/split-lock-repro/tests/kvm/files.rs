//! Flat binaries.

use std::io::Write;

use super::*;
use split_lock_assist::cpu::Gpr;
use split_lock_repro::guest::{FileOptions, GuestFile, Register};

// What the documentation of `GuestFile` promises.
const FREE_START: u64 = 0x2_0000;
const STACK_TOP: u64 = 0x2_0000;
const OPERAND_LINE: u64 = 0x3_0800;
const MEMORY_SIZE: u64 = 16 << 20;

fn guest_with(code: &[u8], options: FileOptions) -> Guest {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(code).unwrap();
    GuestFile::read(file.path(), options).unwrap().into()
}

#[test]
fn a_flat_binary_counts_in_its_own_register_at_its_own_address() {
    let Some(kvm) = kvm() else { return };
    let inc_r12 = [0x49, 0xff, 0xc4, 0xeb, 0xfb];
    for load_address in [FREE_START, 0x12_3456, MEMORY_SIZE - 5] {
        let options = FileOptions {
            load_address,
            counter: Register(Gpr::R12),
        };
        for level in LEVELS {
            let mut vcpu = vcpu(&kvm, &guest_with(&inc_r12, options), level);
            assert_eq!(vcpu.fd.get_regs().unwrap().rip, load_address);
            assert!(turns_in(&mut vcpu, 100).unwrap() > 10);
        }
    }
}

#[test]
fn a_flat_binary_has_a_stack_and_a_line_to_play_with() {
    let Some(kvm) = kvm() else { return };
    // 1: push rsi; pop rax; movaps [rax], xmm0; mov [rax + 63], al; inc rcx; jmp 1b
    let code = [
        0x56, 0x58, 0x0f, 0x29, 0x00, 0x88, 0x40, 0x3f, 0x48, 0xff, 0xc1, 0xeb, 0xf3,
    ];
    for level in LEVELS {
        let guest = file_guest(&code);
        let mut vcpu = vcpu(&kvm, &guest, level);
        assert!(turns_in(&mut vcpu, 100).unwrap() > 100);
        let pushed = vcpu.slot.read(STACK_TOP - 8).unwrap();
        assert_eq!(u64::from_le_bytes(pushed), OPERAND_LINE);
    }
}

#[test]
fn a_count_in_a_register_that_starts_elsewhere_is_still_one_from_zero() {
    let Some(kvm) = kvm() else { return };
    let options = FileOptions {
        counter: Register(Gpr::Rsi),
        ..Default::default()
    };
    let inc_rsi = [0x48, 0xff, 0xc6, 0xeb, 0xfb];
    let vcpu = vcpu(&kvm, &guest_with(&inc_rsi, options), Level::Cpl3);
    assert_eq!(vcpu.slot.turns(&vcpu.fd).unwrap(), 0);
}

#[test]
fn the_debug_port_works_at_both_levels() {
    let Some(kvm) = kvm() else { return };
    let code = [0xe6, 0xe9, 0x48, 0xff, 0xc1, 0xeb, 0xf9]; // 1: out 0xe9, al; inc rcx; jmp 1b
    for level in LEVELS {
        let mut vcpu = vcpu(&kvm, &file_guest(&code), level);
        let (writes, exit) = run_for(&mut vcpu.fd, Duration::from_millis(20));
        assert_eq!(exit, None);
        let turns = vcpu.slot.turns(&vcpu.fd).unwrap();
        // The last write's turn may not have been counted yet.
        assert!(
            writes > 10 && (turns == writes || turns + 1 == writes),
            "{turns} {writes}"
        );
    }
}

#[test]
fn guests_can_load_their_segments_from_the_descriptor_table() {
    let Some(kvm) = kvm() else { return };
    // mov eax, ds; mov ds, eax; mov eax, ss; mov ss, eax; 1: inc rcx; jmp 1b
    let code = [
        0x8c, 0xd8, 0x8e, 0xd8, 0x8c, 0xd0, 0x8e, 0xd0, 0x48, 0xff, 0xc1, 0xeb, 0xfb,
    ];
    for level in LEVELS {
        let mut vcpu = vcpu(&kvm, &file_guest(&code), level);
        let turns = turns_in(&mut vcpu, 100);
        assert!(turns.as_ref().is_ok_and(|turns| *turns > 1000), "{turns:?}");
    }
}
