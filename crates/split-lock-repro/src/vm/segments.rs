//! The processor's mode: segments, control registers and the descriptor table that agrees with them.

use kvm_bindings::{kvm_dtable, kvm_segment, kvm_sregs};

use crate::guest::Level;
use crate::layout::{
    EXCEPTION_STACK_TOP, GDT, KERNEL_CODE, PAGE_TABLES, TSS, TSS_RSP0, USER_CODE, USER_DATA,
};

const CR0_PROTECTED: u64 = 1 << 0;
const CR0_MONITOR_COPROCESSOR: u64 = 1 << 1;
const CR0_EXTENSION_TYPE: u64 = 1 << 4;
const CR0_NUMERIC_ERROR: u64 = 1 << 5;
const CR0_WRITE_PROTECT: u64 = 1 << 16;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const CR4_SSE: u64 = 1 << 9 | 1 << 10;
const EFER_LONG_MODE_ENABLED: u64 = 1 << 8;
pub(crate) const EFER_LONG_MODE_ACTIVE: u64 = 1 << 10;

const KERNEL_DATA: u16 = 0x10;
const TASK: u16 = 0x28;
const TSS_SIZE: u32 = 0x68;

const CODE: u8 = 0b1011;
const DATA: u8 = 0b0011;
const BUSY_TSS: u8 = 0b1011;

/// Puts the special registers into 64-bit mode at `level`, for a vCPU whose memory starts at the
/// physical address `base`; `reset` is what KVM had in them.
pub(crate) fn long_mode(reset: kvm_sregs, base: u64, level: Level) -> kvm_sregs {
    let (code, data) = match level {
        Level::Cpl3 => (code_segment(USER_CODE, 3), data_segment(USER_DATA, 3)),
        Level::Cpl0 => (code_segment(KERNEL_CODE, 0), data_segment(KERNEL_DATA, 0)),
    };
    kvm_sregs {
        cr0: CR0_PROTECTED
            | CR0_MONITOR_COPROCESSOR
            | CR0_EXTENSION_TYPE
            | CR0_NUMERIC_ERROR
            | CR0_WRITE_PROTECT
            | CR0_PAGING,
        cr3: base + PAGE_TABLES,
        cr4: CR4_PAE | CR4_SSE,
        efer: EFER_LONG_MODE_ENABLED | EFER_LONG_MODE_ACTIVE,
        cs: code,
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ss: data,
        tr: task_segment(),
        ldt: kvm_segment {
            unusable: 1,
            ..Default::default()
        },
        gdt: table(GDT, (descriptor_table().len() * 8 - 1) as u16),
        idt: table(0, 0),
        ..reset
    }
}

/// What the guest finds at [`TSS`]: the stack for exceptions at CPL3, and nothing else.
pub(crate) fn task_state() -> Vec<u8> {
    let mut bytes = vec![0; TSS_SIZE as usize];
    bytes[TSS_RSP0..TSS_RSP0 + 8].copy_from_slice(&EXCEPTION_STACK_TOP.to_le_bytes());
    bytes
}

/// What the guest finds at [`GDT`]: the same segments, for guests that load them anew.
pub(crate) fn descriptor_table() -> [u64; 7] {
    [
        0,
        descriptor(&code_segment(KERNEL_CODE, 0)),
        descriptor(&data_segment(KERNEL_DATA, 0)),
        descriptor(&data_segment(USER_DATA, 3)),
        descriptor(&code_segment(USER_CODE, 3)),
        descriptor(&task_segment()),
        task_segment().base >> 32,
    ]
}

pub(crate) fn code_segment(selector: u16, dpl: u8) -> kvm_segment {
    kvm_segment {
        type_: CODE,
        l: 1,
        db: 0,
        ..data_segment(selector, dpl)
    }
}

pub(crate) fn data_segment(selector: u16, dpl: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector: selector | u16::from(dpl),
        type_: DATA,
        present: 1,
        dpl,
        db: 1,
        s: 1,
        l: 0,
        g: 1,
        ..Default::default()
    }
}

/// VMX refuses to enter a guest without a busy TSS.
fn task_segment() -> kvm_segment {
    kvm_segment {
        base: TSS,
        limit: TSS_SIZE - 1,
        selector: TASK,
        type_: BUSY_TSS,
        present: 1,
        ..Default::default()
    }
}

pub(crate) fn table(base: u64, limit: u16) -> kvm_dtable {
    kvm_dtable {
        base,
        limit,
        ..Default::default()
    }
}

fn descriptor(segment: &kvm_segment) -> u64 {
    let base = segment.base;
    let limit = u64::from(segment.limit) >> (12 * segment.g);
    let flags = segment.type_ | segment.s << 4 | segment.dpl << 5 | segment.present << 7;
    let more_flags = segment.l << 1 | segment.db << 2 | segment.g << 3;
    (limit & 0xffff)
        | (base & 0xff_ffff) << 16
        | u64::from(flags) << 40
        | (limit >> 16 & 0xf) << 48
        | u64::from(more_flags) << 52
        | (base >> 24 & 0xff) << 56
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_those_of_every_flat_64_bit_system() {
        let [
            null,
            kernel_code,
            kernel_data,
            user_data,
            user_code,
            task,
            task_high,
        ] = descriptor_table();
        assert_eq!(null, 0);
        assert_eq!(kernel_code, 0x00af_9b00_0000_ffff);
        assert_eq!(kernel_data, 0x00cf_9300_0000_ffff);
        assert_eq!(user_data, 0x00cf_f300_0000_ffff);
        assert_eq!(user_code, 0x00af_fb00_0000_ffff);
        assert_eq!(task, 0x0000_8b00_2000_0067);
        assert_eq!(task_high, 0);
    }

    #[test]
    fn selectors_point_at_their_descriptors_and_carry_the_level() {
        for (level, dpl) in [(Level::Cpl0, 0), (Level::Cpl3, 3)] {
            let sregs = long_mode(kvm_sregs::default(), 0, level);
            for segment in [sregs.cs, sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss] {
                assert_eq!(segment.selector & 3, dpl);
                let index = usize::from(segment.selector / 8);
                assert_eq!(descriptor_table()[index], descriptor(&segment));
            }
        }
    }
}
