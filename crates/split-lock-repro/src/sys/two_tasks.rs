//! The kernel with two tasks, assembled with the addresses that it shares with the rest.

use std::arch::global_asm;

use crate::layout::two_tasks::*;
use crate::layout::{
    ALIGNMENT_CHECK_VECTOR, DEBUG_VECTOR, EXCEPTION_CODE, EXCEPTION_STACK_TOP, STEPPED_ENTRY,
    TASK_DONE_PORT, TSS, TSS_IST1, TSS_RSP0, USER_CODE, USER_DATA,
};

global_asm!(
    include_str!("../guest/two_tasks.s"),
    alignment_check_entry = const EXCEPTION_CODE,
    alignment_check_vector = const ALIGNMENT_CHECK_VECTOR,
    counter = const COUNTER,
    counter_kernel_stack = const kernel_stack_top(1),
    counter_stack = const COUNTER_STACK_TOP,
    counter_word = const COUNTER_WORD,
    current = const CURRENT,
    debug_vector = const DEBUG_VECTOR,
    done = const DONE,
    exception_stack_top = const EXCEPTION_STACK_TOP,
    extra_flags = const EXTRA_FLAGS,
    gate = const GATE,
    gate_with_stack = const GATE_WITH_STACK,
    idt = const KERNEL_IDT,
    idt_size = const KERNEL_IDT_SIZE,
    interrupts = const INTERRUPTS,
    kernel_stack_shift = const KERNEL_STACK_SHIFT,
    kernel_stacks = const KERNEL_STACKS,
    not_ac = const NOT_AC,
    splitter = const SPLITTER,
    splitter_kernel_stack = const kernel_stack_top(0),
    splitter_stack = const SPLITTER_STACK_TOP,
    splitter_word = const SPLITTER_WORD,
    stepped_entry = const STEPPED_ENTRY,
    task_done_port = const TASK_DONE_PORT,
    task_flags = const TASK_FLAGS,
    timer_vector = const TIMER_VECTOR,
    tss = const TSS,
    tss_ist1 = const TSS_IST1,
    tss_rsp0 = const TSS_RSP0,
    undefined_vector = const UNDEFINED_VECTOR,
    user_code = const USER_CODE | 3,
    user_data = const USER_DATA | 3,
);

payloads! {
    /// The kernel: boots at its first byte, with the number of split locks in RDI.
    two_tasks_kernel;
    /// The task that splits locks.
    two_tasks_splitter;
    /// The task that counts.
    two_tasks_counter;
}
