# A program that splits a lock in an endless loop, and the entry of its signal handler.

.pushsection .text.split_lock_repro_program, "ax", @progbits

# RDI: the operand, RSI: flags to set, RDX: the signal mask to run with. Signals are blocked until here, so that a handler
# that changes the flags changes those of the loop. R8 counts the turns, and the system call leaves it alone.
.balign 64
.globl split_lock_repro_program
.hidden split_lock_repro_program
split_lock_repro_program:
    mov r12, rdi
    mov r13, rsi
    mov rsi, rdx
    xor edx, edx
    mov r10d, 8
    mov edi, {sig_setmask}
    mov eax, {set_mask}
    xor r8d, r8d
    syscall
    xor edi, edi
    pushfq
    or qword ptr [rsp], r13
    popfq
    .balign 64
2:  lock bts qword ptr [r12], rdi
    inc r8
    jmp 2b

# A signal leaves the flag in EFLAGS that makes misaligned accesses trap: what comes now has some.
.globl split_lock_repro_program_on_signal
.hidden split_lock_repro_program_on_signal
split_lock_repro_program_on_signal:
    pushfq
    and qword ptr [rsp], {not_alignment_check}
    popfq
    jmp {on_signal}

.popsection
