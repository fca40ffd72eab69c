# The program that a Linux guest gets: position independent, without a library, and without data that
# it would write to except on its stack.
#
# As the guest's first process it mounts what a shell needs and becomes the shell, if there is one.
# Started from there it splits locks as a real-time program.

.set SYS_READ, 0
.set SYS_WRITE, 1
.set SYS_OPEN, 2
.set SYS_CLOSE, 3
.set SYS_IOCTL, 16
.set SYS_DUP2, 33
.set SYS_NANOSLEEP, 35
.set SYS_GETPID, 39
.set SYS_FORK, 57
.set SYS_EXECVE, 59
.set SYS_EXIT, 60
.set SYS_WAIT4, 61
.set SYS_KILL, 62
.set SYS_MKDIR, 83
.set SYS_SETSID, 112
.set SYS_SCHED_SETSCHEDULER, 144
.set SYS_PRCTL, 157
.set SYS_MOUNT, 165

.set O_WRONLY, 1
.set O_RDWR, 2
.set TIOCSCTTY, 0x540e
.set SCHED_OTHER, 0
.set SCHED_FIFO, 1
.set SIGKILL, 9
.set PR_SET_PDEATHSIG, 1

# Where the program is mapped.
.set ADDRESS, 0x400000
.set ELF_EXECUTABLE, 2
.set ELF_X86_64, 62
.set ELF_LOADED, 1
.set ELF_READ_AND_EXECUTE, 5

# Above everything but the kernel's own threads of the highest priority.
.set PRIORITY, 50
# A line that somebody types, a number in digits, and the operand fit below the stack pointer.
.set FRAME, 512

.macro system number
    mov eax, \number
    syscall
.endm

.macro say text
    lea rsi, [rip + \text]
    call .Llinux_say
.endm

.pushsection .rodata.split_lock_repro_linux, "a", @progbits
.balign 64
.globl split_lock_repro_linux_program
.hidden split_lock_repro_linux_program
split_lock_repro_linux_program:
# An ELF file of one segment: the whole of it, to be read and executed.
.Llinux_file:
    .byte 0x7f
    .ascii "ELF"
    .byte 2, 1, 1, 0 # 64 bits, little endian, version 1
    .quad 0
    .short ELF_EXECUTABLE, ELF_X86_64
    .long 1
    .quad ADDRESS + .Llinux_start - .Llinux_file
    .quad .Llinux_segment - .Llinux_file, 0 # no sections
    .long 0
    .short .Llinux_segment - .Llinux_file, .Llinux_start - .Llinux_segment, 1, 0, 0, 0
.Llinux_segment:
    .long ELF_LOADED, ELF_READ_AND_EXECUTE
    .quad 0, ADDRESS, ADDRESS
    .quad .Llinux_end - .Llinux_file, .Llinux_end - .Llinux_file, 0x1000
.Llinux_start:
    sub rsp, FRAME
    system SYS_GETPID
    cmp eax, 1
    jne .Llinux_splitter

# The first process: file systems, by type and place.
    lea rbx, [rip + .Llinux_mounts]
.Llinux_next_mount:
    cmp byte ptr [rbx], 0
    je .Llinux_terminal
    mov rbp, rbx
    call .Llinux_skip_text
    mov rdi, rbx
    mov esi, 0x1ed
    system SYS_MKDIR
    mov rdi, rbp
    mov rsi, rbx
    mov rdx, rbp
    xor r10d, r10d
    xor r8d, r8d
    system SYS_MOUNT
    call .Llinux_skip_text
    jmp .Llinux_next_mount

# A session of its own, with the serial line as its terminal.
.Llinux_terminal:
    system SYS_SETSID
    lea rdi, [rip + .Llinux_serial_line]
    mov esi, O_RDWR
    system SYS_OPEN
    test eax, eax
    js .Llinux_shell
    mov ebx, eax
    mov edi, ebx
    mov esi, TIOCSCTTY
    xor edx, edx
    system SYS_IOCTL
    mov edi, ebx
    xor esi, esi
    system SYS_DUP2
    mov edi, ebx
    mov esi, 1
    system SYS_DUP2
    mov edi, ebx
    mov esi, 2
    system SYS_DUP2
.Llinux_shell:
    say .Llinux_text_up

# The shell: argv and envp on the stack.
    lea rdi, [rip + .Llinux_shell_file]
    lea rax, [rip + .Llinux_shell_name]
    mov [rsp], rax
    mov qword ptr [rsp + 8], 0
    mov rsi, rsp
    lea rax, [rip + .Llinux_env_prompt]
    mov [rsp + 16], rax
    lea rax, [rip + .Llinux_env_path]
    mov [rsp + 24], rax
    lea rax, [rip + .Llinux_env_home]
    mov [rsp + 32], rax
    lea rax, [rip + .Llinux_env_term]
    mov [rsp + 40], rax
    mov qword ptr [rsp + 48], 0
    lea rdx, [rsp + 16]
    system SYS_EXECVE

# There is none. Whatever is typed starts the program.
    say .Llinux_text_no_shell
.Llinux_any_line:
    say .Llinux_text_prompt
    xor edi, edi
    mov rsi, rsp
    mov edx, FRAME
    system SYS_READ
    system SYS_FORK
    test eax, eax
    jnz .Llinux_any_line_wait
    lea rdi, [rip + .Llinux_own_file]
    mov [rsp], rdi
    mov qword ptr [rsp + 8], 0
    mov rsi, rsp
    xor edx, edx
    system SYS_EXECVE
    mov edi, 1
    system SYS_EXIT
.Llinux_any_line_wait:
    mov edi, eax
    call .Llinux_wait_for
    jmp .Llinux_any_line

# Started by somebody. What keeps a real-time program from having a CPU for itself is switched off, as
# it is where such programs run; older kernels have one switch, newer ones another.
.Llinux_splitter:
    say .Llinux_text_real_time
    lea rdi, [rip + .Llinux_limit]
    lea rsi, [rip + .Llinux_limit_none]
    call .Llinux_set
    lea rdi, [rip + .Llinux_fair_server]
    lea rsi, [rip + .Llinux_fair_server_none]
    call .Llinux_set

# Processes that come and go: so the kernel always has a grace period of RCU to bring to its end, as
# it has on any system that does something.
    system SYS_FORK
    mov r14d, eax
    test eax, eax
    jnz .Llinux_real_time
# Whatever becomes of the program, they are not to go on without it.
    mov edi, PR_SET_PDEATHSIG
    mov esi, SIGKILL
    system SYS_PRCTL
.Llinux_busy:
    system SYS_FORK
    test eax, eax
    jz .Llinux_busy_child
    mov edi, eax
    call .Llinux_wait_for
    jmp .Llinux_busy
.Llinux_busy_child:
    xor edi, edi
    system SYS_EXIT

.Llinux_real_time:
    mov qword ptr [rsp], 0
    mov qword ptr [rsp + 8], 50000000
    mov rdi, rsp
    xor esi, esi
    system SYS_NANOSLEEP
    mov dword ptr [rsp], PRIORITY
    mov esi, SCHED_FIFO
    call .Llinux_schedule
    say .Llinux_text_begin

# Ordinary writes first, so that the page is there.
    lea rbp, [rsp + 256]
    and rbp, -64
    mov dword ptr [rbp - 2], 0
    xor ebx, ebx
.Llinux_split:
    lock inc dword ptr [rbp - 2]
    inc ebx
    cmp ebx, 1
    je .Llinux_tell
    mov eax, ebx
    xor edx, edx
    mov ecx, 100
    div ecx
    test edx, edx
    jnz .Llinux_told
.Llinux_tell:
    call .Llinux_tell_count
.Llinux_told:
    cmp ebx, {split_locks}
    jb .Llinux_split

# Everything as it was.
    mov dword ptr [rsp], 0
    mov esi, SCHED_OTHER
    call .Llinux_schedule
    mov edi, r14d
    mov esi, SIGKILL
    system SYS_KILL
    mov edi, r14d
    call .Llinux_wait_for
    lea rdi, [rip + .Llinux_limit]
    lea rsi, [rip + .Llinux_limit_usual]
    call .Llinux_set
    lea rdi, [rip + .Llinux_fair_server]
    lea rsi, [rip + .Llinux_fair_server_usual]
    call .Llinux_set
    say .Llinux_text_end
    xor edi, edi
    system SYS_EXIT

# Writes the text at RSI.
.Llinux_say:
    mov rdx, -1
.Llinux_say_length:
    inc rdx
    cmp byte ptr [rsi + rdx], 0
    jne .Llinux_say_length
.Llinux_say_bytes:
    mov edi, 1
    system SYS_WRITE
    ret

# Moves RBX behind the end of the text that it points to.
.Llinux_skip_text:
    inc rbx
    cmp byte ptr [rbx - 1], 0
    jne .Llinux_skip_text
    ret

# Waits for the process EDI.
.Llinux_wait_for:
    xor esi, esi
    xor edx, edx
    xor r10d, r10d
    system SYS_WAIT4
    ret

# Writes the text at RSI to the file named at RDI, if there is one.
.Llinux_set:
    mov r12, rsi
    mov esi, O_WRONLY
    system SYS_OPEN
    test eax, eax
    js .Llinux_set_done
    mov r13d, eax
    mov rdx, -1
.Llinux_set_length:
    inc rdx
    cmp byte ptr [r12 + rdx], 0
    jne .Llinux_set_length
    mov edi, r13d
    mov rsi, r12
    system SYS_WRITE
    mov edi, r13d
    system SYS_CLOSE
.Llinux_set_done:
    ret

# Schedules this process in the class ESI, with the priority that the caller has on its stack.
.Llinux_schedule:
    xor edi, edi
    lea rdx, [rsp + 8]
    system SYS_SCHED_SETSCHEDULER
    ret

# Says how many split locks are done: EBX, in digits from the right.
.Llinux_tell_count:
    say .Llinux_text_own
    lea r8, [rsp + 40]
    mov rsi, r8
    mov eax, ebx
    mov ecx, 10
.Llinux_tell_digit:
    xor edx, edx
    div ecx
    add dl, '0'
    dec rsi
    mov [rsi], dl
    test eax, eax
    jnz .Llinux_tell_digit
    mov rdx, r8
    sub rdx, rsi
    call .Llinux_say_bytes
    say .Llinux_text_done
    ret

.Llinux_mounts:
    .asciz "proc", "/proc", "sysfs", "/sys", "debugfs", "/sys/kernel/debug", "devtmpfs", "/dev"
    .byte 0
.Llinux_serial_line: .asciz "/dev/ttyS0"
.Llinux_shell_file: .asciz "/bin/sh"
.Llinux_shell_name: .asciz "sh"
.Llinux_env_prompt: .asciz "PS1=guest# "
.Llinux_env_path: .asciz "PATH=/splitlock:/usr/sbin:/usr/bin:/sbin:/bin"
.Llinux_env_home: .asciz "HOME=/"
.Llinux_env_term: .asciz "TERM=dumb"
.Llinux_own_file: .asciz "/splitlock/split"
.Llinux_text_up: .asciz "\nsplitlock: this guest is up; /splitlock/split splits locks\n"
.Llinux_text_no_shell: .asciz "splitlock: there is no /bin/sh here; any line starts the program\n"
.Llinux_text_prompt: .asciz "guest# "
.Llinux_text_real_time: .asciz "splitlock: a real-time program (SCHED_FIFO, and no limit on it) takes this CPU for itself\n"
.Llinux_limit: .asciz "/proc/sys/kernel/sched_rt_runtime_us"
.Llinux_limit_none: .asciz "-1"
.Llinux_fair_server: .asciz "/sys/kernel/debug/sched/fair_server/cpu0/runtime"
.Llinux_fair_server_none: .asciz "0"
.Llinux_text_begin: .asciz "splitlock: 1000 split locks begin\n"
.Llinux_limit_usual: .asciz "950000"
.Llinux_fair_server_usual: .asciz "50000000"
.Llinux_text_end: .asciz "splitlock: all 1000 split locks are done, and this CPU is everybody's again\n"
.Llinux_text_own: .asciz "splitlock: "
.Llinux_text_done: .asciz " done\n"
.Llinux_end:

.globl split_lock_repro_linux_program_end
.hidden split_lock_repro_linux_program_end
split_lock_repro_linux_program_end:
.popsection
