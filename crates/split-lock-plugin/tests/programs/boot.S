/* A boot sector: split locks and near misses in 16-bit and in 32-bit code, then the same instruction at the same address in
   two address spaces, and the end of the machine by isa-debug-exit at 0xf4, with QEMU's exit code 33. */
    .set FIRST, 0x400000
    .set SECOND, 0x800000
    .set FIRST_TABLE, 0x10000
    .set SECOND_TABLE, 0x11000
    /* Present, writable, of 4 MB. */
    .set LARGE_PAGE, 0x83
    .code16
    .globl _start, split_16, split_32
_start:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    movw $5, %cx
split_16:
    lock incw 0x63f
    lock incw 0x63e
    loop split_16
    lgdt gdt_pointer
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $8, $in_32

    .code32
in_32:
    movw $16, %ax
    movw %ax, %ds
    movl $7, %ecx
split_32:
    lock addl $1, 0x67e
    lock addl $1, 0x67c
    loop split_32

    movw %ax, %es
    movl $0x7c00, %esp
    movl $FIRST, %edi
    call copy
    movl $SECOND, %edi
    call copy
    movl $LARGE_PAGE, FIRST_TABLE
    movl $LARGE_PAGE + FIRST, FIRST_TABLE + 4
    movl $LARGE_PAGE, SECOND_TABLE
    movl $LARGE_PAGE + SECOND, SECOND_TABLE + 4
    movl $0x10, %eax
    movl %eax, %cr4
    movl $FIRST_TABLE, %eax
    movl %eax, %cr3
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    movl $FIRST, %ebx
    movl $3, %ecx
1:  call *%ebx
    loop 1b
    movl $SECOND_TABLE, %eax
    movl %eax, %cr3
    movl $2, %ecx
1:  call *%ebx
    loop 1b
    movb $16, %al
    outb %al, $0xf4
1:  hlt
    jmp 1b

copy:
    movl $in_both, %esi
    movl $in_both_end - in_both, %ecx
    rep movsb
    ret
in_both:
    lock incl 0x6be
    ret
in_both_end:

    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
gdt_pointer:
    .word . - gdt - 1
    .long gdt

    .org 510
    .word 0xaa55
