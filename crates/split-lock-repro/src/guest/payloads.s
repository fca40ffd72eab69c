# The built-in guests. Each is an endless loop of one memory access, a count and a jump, with or
# without work in between, so that the counter tells how often the access retired. All are position
# independent, and all addresses come in registers, so that the same bytes split or do not split
# depending on where RSI points.
#
# The loops start on a cache line of their own, so that fetching them costs the same everywhere.

.pushsection .rodata.split_lock_repro_guests, "a", @progbits

# `bts [rsi], rdi` with a register bit offset reaches beyond RSI: it reads and writes the eight bytes
# at RSI + 8 * (RDI >> 6).
.balign 64
.globl split_lock_repro_locked_bts
.hidden split_lock_repro_locked_bts
split_lock_repro_locked_bts:
2:  lock bts qword ptr [rsi], rdi
    inc rcx
    jmp 2b
.globl split_lock_repro_locked_bts_end
.hidden split_lock_repro_locked_bts_end
split_lock_repro_locked_bts_end:

# The same without the prefix: as many bytes moved, nothing locked.
.balign 64
.globl split_lock_repro_plain_bts
.hidden split_lock_repro_plain_bts
split_lock_repro_plain_bts:
2:  bts qword ptr [rsi], rdi
    inc rcx
    jmp 2b
.globl split_lock_repro_plain_bts_end
.hidden split_lock_repro_plain_bts_end
split_lock_repro_plain_bts_end:

# XCHG with memory locks without being told to.
.balign 64
.globl split_lock_repro_xchg
.hidden split_lock_repro_xchg
split_lock_repro_xchg:
2:  xchg qword ptr [rsi], rdi
    inc rcx
    jmp 2b
.globl split_lock_repro_xchg_end
.hidden split_lock_repro_xchg_end
split_lock_repro_xchg_end:

# Stores RCX:RBX where RDX:RAX was found, and loads RDX:RAX otherwise: only the second turn fails.
# It counts in R8, because RCX is an operand.
.balign 64
.globl split_lock_repro_cmpxchg16b
.hidden split_lock_repro_cmpxchg16b
split_lock_repro_cmpxchg16b:
2:  lock cmpxchg16b xmmword ptr [rsi]
    inc r8
    jmp 2b
.globl split_lock_repro_cmpxchg16b_end
.hidden split_lock_repro_cmpxchg16b_end
split_lock_repro_cmpxchg16b_end:

# Leaves a trace of every turn of every vCPU that does this to the same operand.
.balign 64
.globl split_lock_repro_locked_inc
.hidden split_lock_repro_locked_inc
split_lock_repro_locked_inc:
2:  lock inc qword ptr [rsi]
    inc rcx
    jmp 2b
.globl split_lock_repro_locked_inc_end
.hidden split_lock_repro_locked_inc_end
split_lock_repro_locked_inc_end:

# Works before each access: RBX times round a loop that stays in registers. A clock would go on while
# the host lets the guest sleep, and sleep is no work. Each turn waits for a multiplication that needs
# the one before it: the loop's speed is that of the core's clock, whatever a thread beside it on the
# same core leaves of everything else. An empty loop was found to run at half its best.
.balign 64
.globl split_lock_repro_sparse
.hidden split_lock_repro_sparse
split_lock_repro_sparse:
2:  mov rdx, rbx
3:  imul rax, rax
    dec rdx
    jnz 3b
    lock bts qword ptr [rsi], rdi
    inc rcx
    jmp 2b
.globl split_lock_repro_sparse_end
.hidden split_lock_repro_sparse_end
split_lock_repro_sparse_end:

.popsection
