/* A boot sector: split locks and near misses in 16-bit and in 32-bit code, and the end of the machine by isa-debug-exit at
   0xf4, with QEMU's exit code 33. */
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
    movb $16, %al
    outb %al, $0xf4
1:  hlt
    jmp 1b

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
