# A kernel with two tasks, as small as one can be that has what it takes: a timer interrupt preempts
# the tasks, which run at CPL3, and nothing else ever does. Names in braces are constants, most of them
# from layout/two_tasks.rs, which says where everything is.

.pushsection .rodata.split_lock_repro_guests, "a", @progbits

# --- The kernel, at CPL0 and with interrupts off from beginning to end ---

# The general registers of a task, on its kernel stack below what the CPU has pushed.
.macro push_registers
    push rax
    push rcx
    push rdx
    push rbx
    push rbp
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
.endm
.macro pop_registers
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rbp
    pop rbx
    pop rdx
    pop rcx
    pop rax
.endm

.macro set_gate vector, kind
    mov edi, {idt} + 16 * \vector
    movabs rdx, \kind
    call 9f
.endm

# What a task's kernel stack holds before the task has run: RIP from RAX, RSP from RCX, RSI and RDI.
.macro set_frame stack_top
    mov dword ptr [\stack_top - 8], {user_data}
    mov qword ptr [\stack_top - 16], rcx
    mov qword ptr [\stack_top - 24], {task_flags}
    mov dword ptr [\stack_top - 32], {user_code}
    mov qword ptr [\stack_top - 40], rax
    mov qword ptr [\stack_top - 88], rsi
    mov qword ptr [\stack_top - 96], rdi
.endm

# Boot: RDI is how often the first task is to split a lock.
.balign 64
.globl split_lock_repro_two_tasks_kernel
.hidden split_lock_repro_two_tasks_kernel
split_lock_repro_two_tasks_kernel:
    mov rbx, rdi
    lea rax, [rip + 2f]
    set_gate {timer_vector}, {gate}
    lea rax, [rip + 3f]
    set_gate {undefined_vector}, {gate}
    mov eax, {alignment_check_entry}
    set_gate {alignment_check_vector}, {gate_with_stack}
    mov eax, {stepped_entry}
    set_gate {debug_vector}, {gate_with_stack}
    lidt [rip + 8f]
    mov qword ptr [{tss} + {tss_ist1}], {exception_stack_top}

    mov eax, {splitter}
    mov ecx, {splitter_stack}
    mov esi, {splitter_word}
    mov rdi, rbx
    set_frame {splitter_kernel_stack}
    mov eax, {counter}
    mov ecx, {counter_stack}
    mov esi, {counter_word}
    xor edi, edi
    set_frame {counter_kernel_stack}
    xor eax, eax
    jmp 5f

# The timer: the other task's turn.
2:  push_registers
    mov rax, qword ptr [{current}]
    inc qword ptr [{interrupts} + 8 * rax]
    jmp 4f

# A task has come to its end, where it finds no instruction.
3:  push_registers
    mov rax, qword ptr [{current}]
    mov qword ptr [{done} + 8 * rax], 1
    out {task_done_port}, al

# Goes on with the task that is not RAX, unless that one is done.
4:  xor eax, 1
    cmp qword ptr [{done} + 8 * rax], 0
    je 5f
    xor eax, 1

# Goes on with task RAX. Its kernel stack is empty while it runs.
5:  mov qword ptr [{current}], rax
    inc eax
    shl eax, {kernel_stack_shift}
    add eax, {kernel_stacks}
    mov qword ptr [{tss} + {tss_rsp0}], rax
    lea rsp, [rax - 160]
    # Whether its misaligned accesses trap is not up to the task.
    mov rax, qword ptr [rsp + 136]
    and eax, {not_ac}
    or rax, qword ptr [{extra_flags}]
    mov qword ptr [rsp + 136], rax
    pop_registers
    iretq

# Writes the descriptor at RDI: entry in RAX, everything else in RDX.
9:  movzx ecx, ax
    or rdx, rcx
    shr eax, 16
    shl rax, 48
    or rdx, rax
    mov qword ptr [rdi], rdx
    ret

8:  .word {idt_size} - 1
    .quad {idt}
.globl split_lock_repro_two_tasks_kernel_end
.hidden split_lock_repro_two_tasks_kernel_end
split_lock_repro_two_tasks_kernel_end:

# --- The tasks, at CPL3 ---

# RDI times a split lock, in the word at RSI, which so counts them.
.balign 64
.globl split_lock_repro_two_tasks_splitter
.hidden split_lock_repro_two_tasks_splitter
split_lock_repro_two_tasks_splitter:
2:  lock inc qword ptr [rsi]
    dec rdi
    jnz 2b
    ud2
.globl split_lock_repro_two_tasks_splitter_end
.hidden split_lock_repro_two_tasks_splitter_end
split_lock_repro_two_tasks_splitter_end:

# Counts in the word at RSI for ever.
.balign 64
.globl split_lock_repro_two_tasks_counter
.hidden split_lock_repro_two_tasks_counter
split_lock_repro_two_tasks_counter:
2:  inc qword ptr [rsi]
    jmp 2b
.globl split_lock_repro_two_tasks_counter_end
.hidden split_lock_repro_two_tasks_counter_end
split_lock_repro_two_tasks_counter_end:

.popsection
