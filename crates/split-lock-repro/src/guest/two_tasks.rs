//! A kernel with two tasks: one splits a number of locks and is done, the other counts for ever.
//!
//! The kernel runs at CPL0 and the tasks at CPL3. At each timer interrupt, which the VMM injects, it
//! goes on with the other task, as long as there are two. What the VMM wants to know lies in memory, at
//! the addresses in [`two_tasks`](crate::layout::two_tasks). #AC and #DB lead to the stubs of
//! [`crate::vm::trap`], on the same stack as in all other guests: whatever deals with a misaligned
//! access there can do so here.

use std::num::NonZeroU64;

use kvm_bindings::kvm_regs;

use crate::layout::two_tasks::{BOOT_STACK_TOP, COUNTER, KERNEL, SPLITTER};
use crate::sys::two_tasks as code;

/// What has to be in memory, and where.
pub(crate) fn pieces() -> [(u64, &'static [u8]); 3] {
    [
        (KERNEL, code::two_tasks_kernel()),
        (SPLITTER, code::two_tasks_splitter()),
        (COUNTER, code::two_tasks_counter()),
    ]
}

/// The registers with which the kernel boots.
pub(crate) fn start_registers(split_locks: NonZeroU64) -> kvm_regs {
    kvm_regs {
        rip: KERNEL,
        rsp: BOOT_STACK_TOP,
        rdi: split_locks.get(),
        rflags: 1 << 1,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::{Operand, instructions};
    use crate::layout::two_tasks::*;
    use crate::layout::{EXCEPTION_CODE, GDT, IDT, PAGE_TABLES, SYSTEM_END, TSS};
    use iced_x86::{Code, Instruction};

    fn codes(all: &[Instruction]) -> Vec<Code> {
        all.iter().map(Instruction::code).collect()
    }

    #[test]
    fn one_task_splits_a_lock_in_each_turn_and_comes_to_an_end() {
        let task = instructions(SPLITTER, code::two_tasks_splitter());
        let expected = [Code::Inc_rm64, Code::Dec_rm64, Code::Jne_rel8_64, Code::Ud2];
        assert_eq!(codes(&task), expected);
        assert!(task[0].has_lock_prefix());
        assert_eq!(task[2].near_branch_target(), SPLITTER);
        let word = Operand {
            address: SPLITTER_WORD,
            size: task[0].memory_size().size() as u64,
        };
        assert!(word.crosses_line());
    }

    #[test]
    fn the_other_counts_without_a_lock_and_for_ever() {
        let task = instructions(COUNTER, code::two_tasks_counter());
        assert_eq!(codes(&task), [Code::Inc_rm64, Code::Jmp_rel8_64]);
        assert!(!task[0].has_lock_prefix());
        assert_eq!(task[1].near_branch_target(), COUNTER);
        assert_eq!(COUNTER_WORD % 8, 0);
    }

    /// The descriptor of the table, which is data, comes last.
    #[test]
    fn the_kernel_is_left_in_one_place_and_never_lets_interrupts_in() {
        let code = code::two_tasks_kernel();
        let (code, table) = code.split_at(code.len() - 10);
        let limit = (KERNEL_IDT_SIZE - 1).to_le_bytes();
        assert_eq!(table, [&limit[..2], &KERNEL_IDT.to_le_bytes()].concat());

        let kernel = codes(&instructions(KERNEL, code));
        let times = |code| kernel.iter().filter(|&&c| c == code).count();
        assert_eq!(times(Code::INVALID), 0);
        assert_eq!(times(Code::Iretq), 1);
        assert_eq!(times(Code::Out_imm8_AL), 1);
        assert_eq!(times(Code::Sti) + times(Code::Popfq), 0);
        assert_eq!(times(Code::Push_r64), 2 * times(Code::Pop_r64));
    }

    #[test]
    fn the_kernel_fits_into_what_tasks_cannot_touch_and_nobody_else_uses() {
        let gdt_end = GDT + size_of_val(&crate::vm::long_mode(0).descriptors()) as u64;
        let (trap_idt, descriptors) = &crate::vm::trap::pieces()[0];
        assert!([gdt_end, CURRENT, INTERRUPTS, DONE, EXTRA_FLAGS].is_sorted());
        const { assert!(EXTRA_FLAGS < BOOT_STACK_TOP - 64 && BOOT_STACK_TOP <= KERNEL_STACKS) };
        assert!(
            [
                kernel_stack_top(0),
                kernel_stack_top(1),
                TSS,
                PAGE_TABLES,
                IDT
            ]
            .is_sorted()
        );
        assert_eq!(*trap_idt, IDT);
        let end = KERNEL + code::two_tasks_kernel().len() as u64;
        assert!(IDT + descriptors.len() as u64 <= KERNEL_IDT);
        assert!(KERNEL_IDT + KERNEL_IDT_SIZE <= KERNEL && end <= EXCEPTION_CODE);
        let end = SPLITTER + code::two_tasks_splitter().len() as u64;
        assert!(SPLITTER >= SYSTEM_END && end <= COUNTER);
    }
}
