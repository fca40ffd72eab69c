/* A static program of 32 bits without a C library: one split lock and one near miss, 100 times each. */
    .globl _start
_start:
    movl $100, %ecx
1:  lock incl line + 62
    lock incl line + 60
    decl %ecx
    jnz 1b
    movl $1, %eax
    movl $7, %ebx
    int $0x80

    .bss
    .balign 64
line:
    .skip 128
