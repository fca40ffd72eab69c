//! A trap of the CPU's own at every misaligned access of a guest: what split-lock detection does, on
//! CPUs that do not detect split locks.
//!
//! With CR0.AM and EFLAGS.AC the CPU raises #AC at CPL3 before an access whose address is not a
//! multiple of its size. Every split lock is one. The vCPU gets an interrupt descriptor table whose
//! entry for #AC leads to an OUT, so that each such trap becomes an exit, with the instruction not
//! yet executed and the exception's frame, as the CPU pushed it, at a known place. Resumed, the guest
//! returns to wherever the frame then says, with the flags that it then says: with AC clear the
//! instruction completes.
//!
//! A misaligned access within a line must not be taken for a split lock, and has to be got past: with
//! TF in the frame's flags the CPU executes one instruction and raises #DB, which is another exit.

use kvm_bindings::{kvm_dtable, kvm_sregs};

use crate::layout::{
    ALIGNMENT_CHECK_PORT, ALIGNMENT_CHECK_VECTOR, DEBUG_VECTOR, EXCEPTION_CODE,
    EXCEPTION_STACK_TOP, IDT, KERNEL_CODE, STEPPED_ENTRY, STEPPED_PORT,
};

const CR0_ALIGNMENT_MASK: u64 = 1 << 18;

/// A KVM without hardware virtualization may push flags without IOPL, and all guests begin with
/// IOPL 3: the handlers put it back.
#[rustfmt::skip]
const ALIGNMENT_CHECK_CODE: [u8; 13] = [
    0x80, 0x4c, 0x24, 0x19, 0x30, // or byte ptr [rsp+0x19], 0x30: IOPL in the frame's flags
    0xe6,
    ALIGNMENT_CHECK_PORT as u8, // out ALIGNMENT_CHECK_PORT, al
    0x48,
    0x83,
    0xc4,
    0x08, // add rsp, 8: the error code
    0x48,
    0xcf, // iretq
];
#[rustfmt::skip]
const STEPPED_CODE: [u8; 9] = [
    0x80, 0x4c, 0x24, 0x11, 0x30, // or byte ptr [rsp+0x11], 0x30
    0xe6,
    STEPPED_PORT as u8, // out STEPPED_PORT, al
    0x48,
    0xcf, // iretq
];

const CODE_END: u64 = STEPPED_ENTRY + STEPPED_CODE.len() as u64;

/// Where RIP, RFLAGS and RSP lie that the CPU returns to, the same for both exceptions: only #AC
/// pushes an error code after them.
pub(crate) const FRAME_RIP: u64 = EXCEPTION_STACK_TOP - 40;
pub(crate) const FRAME_RFLAGS: u64 = EXCEPTION_STACK_TOP - 24;
pub(crate) const FRAME_RSP: u64 = EXCEPTION_STACK_TOP - 16;

/// Registers with which the guest is about to return to wherever the frame says.
pub(crate) const ABOUT_TO_RETURN_RIP: u64 = EXCEPTION_CODE + ALIGNMENT_CHECK_CODE.len() as u64 - 2;
pub(crate) const ABOUT_TO_RETURN_RSP: u64 = FRAME_RIP;

/// Whether the guest is in one of its handlers, so that the frame counts and not the registers.
pub(crate) fn is_in_handler(rip: u64) -> bool {
    (EXCEPTION_CODE..CODE_END).contains(&rip)
}

/// The special registers with the table in force and the CPU told to check alignment.
pub(crate) fn checking_alignment(sregs: kvm_sregs) -> kvm_sregs {
    kvm_sregs {
        cr0: sregs.cr0 | CR0_ALIGNMENT_MASK,
        idt: kvm_dtable {
            base: IDT,
            limit: (descriptors().len() * 8 - 1) as u16,
            ..Default::default()
        },
        ..sregs
    }
}

/// What has to be in memory for that, and where.
pub(crate) fn pieces() -> [(u64, Vec<u8>); 3] {
    let descriptors = descriptors();
    [
        (
            IDT,
            descriptors
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .collect(),
        ),
        (EXCEPTION_CODE, ALIGNMENT_CHECK_CODE.to_vec()),
        (STEPPED_ENTRY, STEPPED_CODE.to_vec()),
    ]
}

/// Two words a vector. All others are not present: they end in a triple fault.
fn descriptors() -> Vec<u64> {
    let mut words = vec![0; 2 * (ALIGNMENT_CHECK_VECTOR + 1)];
    for (vector, entry) in [
        (DEBUG_VECTOR, STEPPED_ENTRY),
        (ALIGNMENT_CHECK_VECTOR, EXCEPTION_CODE),
    ] {
        words[2 * vector..2 * vector + 2].copy_from_slice(&interrupt_gate(entry));
    }
    words
}

/// Present, for CPL0 only, so that no guest gets there by INT.
fn interrupt_gate(entry: u64) -> [u64; 2] {
    const PRESENT_INTERRUPT_GATE: u64 = 0x8e;
    let low = (entry & 0xffff)
        | u64::from(KERNEL_CODE) << 16
        | PRESENT_INTERRUPT_GATE << 40
        | (entry >> 16 & 0xffff) << 48;
    [low, entry >> 32]
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::Code;

    fn codes(bytes: &[u8]) -> Vec<Code> {
        let instructions = crate::guest::instructions(0, bytes);
        instructions
            .iter()
            .map(iced_x86::Instruction::code)
            .collect()
    }

    #[test]
    fn the_handlers_tell_and_return() {
        assert_eq!(
            codes(&ALIGNMENT_CHECK_CODE),
            [
                Code::Or_rm8_imm8,
                Code::Out_imm8_AL,
                Code::Add_rm64_imm8,
                Code::Iretq
            ]
        );
        assert_eq!(
            codes(&STEPPED_CODE),
            [Code::Or_rm8_imm8, Code::Out_imm8_AL, Code::Iretq]
        );
        let iretq = (ABOUT_TO_RETURN_RIP - EXCEPTION_CODE) as usize;
        assert_eq!(codes(&ALIGNMENT_CHECK_CODE[iretq..]), [Code::Iretq]);
        assert!(EXCEPTION_CODE + ALIGNMENT_CHECK_CODE.len() as u64 <= STEPPED_ENTRY);
    }

    #[test]
    fn gates_lead_to_the_handlers() {
        let words = descriptors();
        assert_eq!(words[2 * 17], 0x0000_8e00_0008_f000);
        assert_eq!(words[2], 0x0000_8e00_0008_f010);
        assert_eq!(words.iter().filter(|&&word| word != 0).count(), 2);
        let end = IDT + words.len() as u64 * 8;
        assert!(end <= EXCEPTION_CODE);
    }
}
