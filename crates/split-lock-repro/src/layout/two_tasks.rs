//! Where the kernel with two tasks has things, and the numbers that it goes by.

use split_lock_assist::cpu::rflags;

use super::{CODE, KERNEL_CODE, OPERAND_LINE, OPERAND_PAGE_END, STACK_TOP};

/// The task whose turn it is: 0 splits locks, 1 counts. Eight bytes, like everything here.
pub(crate) const CURRENT: u64 = 0x1100;
/// For each task, how often the timer has interrupted it.
pub(crate) const INTERRUPTS: u64 = 0x1110;
/// For each task, 1 if it is done.
pub(crate) const DONE: u64 = 0x1120;
/// RFLAGS that a task gets beside its own whenever the kernel goes on with it; AC is not its own.
pub(crate) const EXTRA_FLAGS: u64 = 0x1130;

/// For each task, a stack on which it enters the kernel. It is empty while the task runs.
pub(crate) const KERNEL_STACKS: u64 = 0x1800;
pub(crate) const KERNEL_STACK_SHIFT: u32 = 9;

pub(crate) const fn kernel_stack_top(task: u64) -> u64 {
    KERNEL_STACKS + ((task + 1) << KERNEL_STACK_SHIFT)
}

/// Where the RIP of a task is while it does not run, as the CPU has pushed it.
pub(crate) const fn saved_rip(task: u64) -> u64 {
    kernel_stack_top(task) - 40
}

/// Used until there are tasks: the boot code's own.
pub(crate) const BOOT_STACK_TOP: u64 = KERNEL_STACKS;

pub(crate) const KERNEL_IDT: u64 = 0xe400;
pub(crate) const KERNEL_IDT_SIZE: u64 = 16 * (TIMER_VECTOR as u64 + 1);
pub(crate) const KERNEL: u64 = 0xe800;

/// The code of the task that splits locks.
pub(crate) const SPLITTER: u64 = CODE;
pub(crate) const SPLITTER_STACK_TOP: u64 = STACK_TOP;
/// Crosses a cache line. The task increments it, so it says how many split locks were done.
pub(crate) const SPLITTER_WORD: u64 = OPERAND_LINE + 60;

/// The code of the task that counts.
pub(crate) const COUNTER: u64 = CODE + 0x1000;
pub(crate) const COUNTER_STACK_TOP: u64 = STACK_TOP - 0x1000;
/// Aligned. What the task has counted to.
pub(crate) const COUNTER_WORD: u64 = OPERAND_PAGE_END;

/// The interrupt of the timer, which is the VMM.
pub(crate) const TIMER_VECTOR: u8 = 32;
/// #UD. A task ends in an instruction that is none: software interrupts are not to be had at CPL3
/// where KVM runs it without hardware virtualization.
pub(crate) const UNDEFINED_VECTOR: u8 = 6;

/// Interrupts on, no I/O.
pub(crate) const TASK_FLAGS: u64 = 1 << 9 | 1 << 1;
/// All of RFLAGS but AC.
pub(crate) const NOT_AC: u32 = !(rflags::ALIGNMENT_CHECK as u32);

/// An interrupt gate: interrupts are off behind it, and its entry is in the kernel's code segment.
pub(crate) const GATE: u64 = 0x8e << 40 | (KERNEL_CODE as u64) << 16;
/// On the first stack of the interrupt stack table, whatever task it is.
pub(crate) const GATE_WITH_STACK: u64 = GATE | 1 << 32;
