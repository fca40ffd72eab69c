//! The walker against KVM's own.

use std::cell::Cell;

use kvm_bindings::kvm_sregs;
use kvm_ioctls::VcpuFd;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use split_lock_assist::guest_ram::GuestRam;
use split_lock_assist::kvm::{BreakpointSupport, KvmVcpu};
use split_lock_assist::memory::{AccessError, Memory};
use split_lock_assist::pause::SingleVcpu;

use crate::INCREMENT;
use crate::vm::{TestVm, kvm, long_mode};

/// Tables are here, and none of them is touched by anything else.
const TABLES: u64 = 0x10_0000;
const TABLE_COUNT: u64 = 16;

/// Entries that lead to other tables, to pages, or nowhere, with bits that should not be there.
fn entry() -> impl Strategy<Value = u64> {
    let target = prop_oneof![
        8 => (0..TABLE_COUNT).prop_map(|table| TABLES + (table << 12)),
        2 => (0..0x200u64).prop_map(|page| page << 12),
        1 => (0..8u64).prop_map(|page| page << 21),
    ];
    let odd_bits = prop_oneof![
        12 => Just(0),
        1 => (7..13u32).prop_map(|bit| 1 << bit),
        1 => (13..30u32).prop_map(|bit| 1 << bit),
        1 => (52..64u32).prop_map(|bit| 1 << bit),
    ];
    // Supervisor pages as well: KVM_TRANSLATE does not care.
    let flags =
        prop_oneof![10 => Just(0x63u64), 10 => Just(0x67), 1 => Just(0x66), 3 => Just(0xe7)];
    (target, odd_bits, flags).prop_map(|(target, odd_bits, flags)| target | odd_bits | flags)
}

/// Few enough different indices that most addresses find an entry.
fn tables() -> impl Strategy<Value = Vec<[u64; 4]>> {
    let table = [entry(), entry(), entry(), entry()];
    prop::collection::vec(table, TABLE_COUNT as usize)
}

#[derive(Debug, Clone, Copy)]
enum Format {
    FourLevels,
    Pae,
    TwoLevels,
}

fn special_registers(reset: kvm_sregs, format: Format) -> kvm_sregs {
    let mut special = long_mode(reset, 0);
    special.cr3 = TABLES;
    // Writing is always allowed: KVM_TRANSLATE says where something is, not for whom.
    special.cr0 &= !(1 << 16);
    if !matches!(format, Format::FourLevels) {
        special.efer = 1 << 11;
        (special.cs.l, special.cs.db) = (0, 1);
    }
    if matches!(format, Format::TwoLevels) {
        special.cr4 = 1 << 4;
        special.efer = 0;
    }
    special
}

fn fill(vm: &TestVm, format: Format, tables: &[[u64; 4]]) {
    for (n, entries) in (0..).zip(tables) {
        let table = TABLES + (n << 12);
        vm.set_words(table, &[0; 512]);
        match format {
            Format::TwoLevels => {
                let low = |entry: u64| entry & 0xffff_ffff;
                let pairs = [
                    low(entries[0]) | low(entries[1]) << 32,
                    low(entries[2]) | low(entries[3]) << 32,
                ];
                vm.set_words(table, &pairs);
            }
            _ => vm.set_words(table, entries),
        }
    }
    if matches!(format, Format::Pae) {
        // Its root has other flags.
        let roots: Vec<u64> = (1..=4).map(|n| (TABLES + (n << 12)) | 1).collect();
        vm.set_words(TABLES, &roots);
    }
}

/// One of the four entries of every level.
fn address(format: Format, indices: [u64; 4], offset: u64) -> u64 {
    let [a, b, c, d] = indices;
    match format {
        Format::FourLevels => a << 39 | b << 30 | c << 21 | d << 12 | offset,
        Format::Pae => a << 30 | b << 21 | c << 12 | offset,
        Format::TwoLevels => a << 22 | b << 12 | offset,
    }
}

/// A KVM without hardware virtualization may switch paging off where it has none.
fn pages_like_this(vm: &TestVm, format: Format) -> bool {
    let vcpu = vm.untouched_vcpu(0);
    let reset = vcpu.get_sregs().unwrap();
    let wanted = special_registers(reset, format);
    vcpu.set_sregs(&wanted).unwrap();
    vcpu.get_sregs().unwrap().cr0 == wanted.cr0
}

/// What a byte at this address is, by the walker.
fn by_walker(vcpu: &VcpuFd, vm: &TestVm, address: u64) -> Result<u8, AccessError> {
    let mut vcpu = KvmVcpu::new(vcpu, BreakpointSupport::NONE).unwrap();
    let mut parts = vcpu.stopped(GuestRam::new(&vm.memory), &SingleVcpu);
    let mut byte = [0];
    parts.memory.load_for_update(address, &mut byte)?;
    Ok(byte[0])
}

fn next(ids: &Cell<u64>) -> u64 {
    ids.replace(ids.get() + 1)
}

#[test]
fn the_walker_finds_what_kvm_finds() {
    let Some(kvm) = kvm() else { return };
    for format in [Format::FourLevels, Format::Pae, Format::TwoLevels] {
        let vm = TestVm::new(&kvm, INCREMENT);
        if !pages_like_this(&vm, format) {
            eprintln!("skipped: this KVM has no paging of the format {format:?}");
            continue;
        }
        // Every page has its own contents.
        for page in 0x40..0x100u64 {
            vm.set_words(
                page << 12,
                &[(page * 0x0101_0101_0101_0101) & 0x7f7f_7f7f_7f7f_7f7f; 512],
            );
        }
        let ids = Cell::new(1);
        let (found, missing) = (Cell::new(0), Cell::new(0));
        let mut runner = TestRunner::new(Config {
            cases: 60,
            failure_persistence: None,
            ..Config::default()
        });
        let indices = prop::array::uniform4(0..4u64);
        let places = prop::collection::vec((indices, 0..0x1000u64), 20);
        let result = runner.run(&(tables(), places), |(tables, places)| {
            fill(&vm, format, &tables);
            // A new one each time: it must not remember translations.
            let vcpu = vm.untouched_vcpu(next(&ids));
            let reset = vcpu.get_sregs().unwrap();
            vcpu.set_sregs(&special_registers(reset, format)).unwrap();
            for (indices, offset) in places {
                let address = address(format, indices, offset);
                let kvms = vcpu.translate_gva(address).unwrap();
                match by_walker(&vcpu, &vm, address) {
                    Ok(byte) => {
                        prop_assert_ne!(kvms.valid, 0, "{:#x}", address);
                        let word = vm.word(kvms.physical_address & !7);
                        let expected = (word >> (8 * (kvms.physical_address & 7))) as u8;
                        prop_assert_eq!(byte, expected, "{:#x}", address);
                        found.set(found.get() + 1);
                    }
                    Err(AccessError::NotMapped { .. }) => {
                        prop_assert_eq!(kvms.valid, 0, "{:#x}", address);
                        missing.set(missing.get() + 1);
                    }
                    Err(AccessError::NotWritable { .. }) => {
                        prop_assert!(false, "nobody forbids it");
                    }
                    // Not RAM, or too odd for anybody to know.
                    Err(_) => {}
                }
            }
            Ok(())
        });
        result.unwrap();
        let (found, missing) = (found.get(), missing.get());
        assert!(
            found > 50 && missing > 5,
            "{format:?}: {found} and {missing}"
        );
    }
}
