//! The state of a vCPU in 64-bit mode, for guests without an operating system.

use kvm_bindings::{kvm_dtable, kvm_segment, kvm_sregs};

const CR0: u64 = 1 << 31 | 1 << 16 | 1 << 5 | 1 << 4 | 1 << 1 | 1;
const CR4_PAE: u64 = 1 << 5;
const EFER_LONG_MODE: u64 = 1 << 10 | 1 << 8;

const CODE: u8 = 0b1011;
const DATA: u8 = 0b0011;
const BUSY_TASK: u8 = 0b1011;
const TASK_BYTES: u32 = 0x68;

/// A guest in 64-bit mode with flat segments: where in its memory it has what the registers point to.
///
/// The selectors are in the order that SYSCALL, SYSRET and SYSEXIT expect. There is no interrupt
/// table: any exception is a triple fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongMode {
    /// Physical address of the page table of the highest of four levels.
    pub page_tables: u64,
    /// Linear address of the [descriptors](Self::descriptors).
    pub descriptors: u64,
    /// Linear address of a task state segment of 0x68 bytes.
    pub task: u64,
}

impl LongMode {
    /// The selector of code at CPL 0.
    pub const KERNEL_CODE: u16 = 0x08;
    /// The selector of data at CPL 0.
    pub const KERNEL_DATA: u16 = 0x10;
    /// The selector of data at CPL 3, without that level.
    pub const USER_DATA: u16 = 0x18;
    /// The selector of code at CPL 3, without that level.
    pub const USER_CODE: u16 = 0x20;
    /// The selector of the task.
    pub const TASK: u16 = 0x28;

    /// The special registers at CPL 0 or CPL 3; `reset` is what KVM had in them.
    #[must_use]
    pub fn special_registers(&self, reset: kvm_sregs, cpl: u8) -> kvm_sregs {
        let (code, data) = match cpl {
            0 => (Self::KERNEL_CODE, Self::KERNEL_DATA),
            _ => (Self::USER_CODE, Self::USER_DATA),
        };
        let data = segment(data, DATA, cpl);
        kvm_sregs {
            cr0: CR0,
            cr3: self.page_tables,
            cr4: CR4_PAE,
            efer: EFER_LONG_MODE,
            cs: segment(code, CODE, cpl),
            ds: data,
            es: data,
            fs: data,
            gs: data,
            ss: data,
            tr: self.task(),
            ldt: kvm_segment {
                unusable: 1,
                ..kvm_segment::default()
            },
            gdt: kvm_dtable {
                base: self.descriptors,
                limit: 8 * 7 - 1,
                ..kvm_dtable::default()
            },
            idt: kvm_dtable::default(),
            ..reset
        }
    }

    /// The same segments as in the registers, for CPUs and hypervisors that read them from memory.
    #[must_use]
    pub fn descriptors(&self) -> [u64; 7] {
        [
            0,
            descriptor(&segment(Self::KERNEL_CODE, CODE, 0)),
            descriptor(&segment(Self::KERNEL_DATA, DATA, 0)),
            descriptor(&segment(Self::USER_DATA, DATA, 3)),
            descriptor(&segment(Self::USER_CODE, CODE, 3)),
            descriptor(&self.task()),
            self.task >> 32,
        ]
    }

    /// VMX refuses to enter a guest without a busy one.
    fn task(&self) -> kvm_segment {
        kvm_segment {
            base: self.task,
            limit: TASK_BYTES - 1,
            selector: Self::TASK,
            type_: BUSY_TASK,
            present: 1,
            ..kvm_segment::default()
        }
    }
}

fn segment(selector: u16, type_: u8, dpl: u8) -> kvm_segment {
    let is_code = u8::from(type_ == CODE);
    kvm_segment {
        limit: u32::MAX,
        selector: selector | u16::from(dpl),
        type_,
        present: 1,
        dpl,
        db: 1 - is_code,
        s: 1,
        l: is_code,
        g: 1,
        ..kvm_segment::default()
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

    const GUEST: LongMode = LongMode {
        page_tables: 0x1000,
        descriptors: 0x4000,
        task: 0x2_3456_7890,
    };

    #[test]
    fn descriptors_are_those_of_every_flat_64_bit_system() {
        let expected = [
            0,
            0x00af_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0x00cf_f300_0000_ffff,
            0x00af_fb00_0000_ffff,
            0x3400_8b56_7890_0067,
            2,
        ];
        assert_eq!(GUEST.descriptors(), expected);
    }

    #[test]
    fn selectors_point_at_their_descriptors_and_carry_the_level() {
        for cpl in [0, 3] {
            let special = GUEST.special_registers(kvm_sregs::default(), cpl);
            for segment in [special.cs, special.ds, special.ss, special.tr] {
                let index = usize::from(segment.selector / 8);
                assert_eq!(GUEST.descriptors()[index], descriptor(&segment));
            }
            assert_eq!(
                [special.cs.selector & 3, special.ss.selector & 3],
                [u16::from(cpl); 2]
            );
        }
    }
}
