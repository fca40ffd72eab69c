//! Executing one instruction natively, with registers, segments and memory as they are asked for.

#![expect(
    unsafe_code,
    reason = "fixed mappings, fork, LDT entries, signal handlers and jumps into made-up code have no \
              safe form"
)]

use std::arch::global_asm;
use std::io;
use std::mem::{self, MaybeUninit, offset_of};
use std::ptr;

/// What a native execution starts with.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Task {
    pub(crate) gpr: [u64; 16],
    pub(crate) rflags: u64,
    pub(crate) place: CodeSegment,
    /// Where `poke` goes before the instruction. Zero: nowhere.
    pub(crate) poke_at: u64,
    pub(crate) poke: [u8; 16],
    /// What is copied to [`Outcome::window`] after it.
    pub(crate) window_at: u64,
}

/// In which mode the instruction is executed, and from where.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct CodeSegment {
    /// Outside of 64-bit mode, the offset in `code_selector`.
    pub(crate) rip: u64,
    /// Zero: 64-bit mode.
    pub(crate) code_selector: u64,
    /// In 64-bit mode.
    pub(crate) fs_base: u64,
    pub(crate) gs_base: u64,
    /// DS, ES, FS, GS and SS, outside of 64-bit mode.
    pub(crate) selectors: [u16; 5],
}

pub(crate) const WINDOW_BYTES: usize = 64;

/// What has become of a [`Task`].
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Outcome {
    pub(crate) gpr: [u64; 16],
    pub(crate) rflags: u64,
    /// The exception's vector, or [`NO_TRAP`].
    pub(crate) trap: u64,
    /// Of a page fault: the address that could not be accessed.
    pub(crate) trap_address: u64,
    pub(crate) trap_rip: u64,
    pub(crate) window: [u8; WINDOW_BYTES],
    pub(crate) done: bool,
}

pub(crate) const NO_TRAP: u64 = u64::MAX;

/// The kernel's selector of 64-bit code.
pub(crate) const USER_CODE: u16 = 0x33;

impl Outcome {
    pub(crate) const NONE: Self = Self {
        gpr: [0; 16],
        rflags: 0,
        trap: NO_TRAP,
        trap_address: 0,
        trap_rip: 0,
        window: [0; WINDOW_BYTES],
        done: false,
    };
}

/// What the code below and this program tell each other.
#[repr(C, align(64))]
struct Cell {
    gpr: [u64; 16],
    rflags: u64,
    rip: u64,
    code_selector: u64,
    fs_base: u64,
    gs_base: u64,
    selectors: [u16; 5],
    out_gpr: [u64; 16],
    out_rflags: u64,
    trap: u64,
    trap_address: u64,
    trap_rip: u64,
    own_rsp: u64,
    own_fs_base: u64,
    own_gs_base: u64,
    stack: [u64; 16],
    stack_top: u64,
}

impl Cell {
    fn of(task: &Task) -> Self {
        Self {
            gpr: task.gpr,
            rflags: task.rflags,
            rip: task.place.rip,
            code_selector: task.place.code_selector,
            fs_base: task.place.fs_base,
            gs_base: task.place.gs_base,
            selectors: task.place.selectors,
            out_gpr: [0; 16],
            out_rflags: 0,
            trap: NO_TRAP,
            trap_address: 0,
            trap_rip: 0,
            own_rsp: 0,
            own_fs_base: 0,
            own_gs_base: 0,
            stack: [0; 16],
            stack_top: 0,
        }
    }
}

// All of it works with any values in the general-purpose registers and flags, and so reaches
// everything relative to RIP. The alignment-check flag may be set: every access is aligned.
global_asm!(
    r#"
    .bss
    .balign 64
    .globl split_lock_oracle_cell
split_lock_oracle_cell:
    .skip {size}
    .text

    .macro split_lock_oracle_load
    lea rsp, [rip + split_lock_oracle_cell + {stack_top}]
    push qword ptr [rip + split_lock_oracle_cell + {rflags}]
    popfq
    mov rax, [rip + split_lock_oracle_cell + {gpr} + 8*0]
    mov rcx, [rip + split_lock_oracle_cell + {gpr} + 8*1]
    mov rdx, [rip + split_lock_oracle_cell + {gpr} + 8*2]
    mov rbx, [rip + split_lock_oracle_cell + {gpr} + 8*3]
    mov rsp, [rip + split_lock_oracle_cell + {gpr} + 8*4]
    mov rbp, [rip + split_lock_oracle_cell + {gpr} + 8*5]
    mov rsi, [rip + split_lock_oracle_cell + {gpr} + 8*6]
    mov rdi, [rip + split_lock_oracle_cell + {gpr} + 8*7]
    mov r8,  [rip + split_lock_oracle_cell + {gpr} + 8*8]
    mov r9,  [rip + split_lock_oracle_cell + {gpr} + 8*9]
    mov r10, [rip + split_lock_oracle_cell + {gpr} + 8*10]
    mov r11, [rip + split_lock_oracle_cell + {gpr} + 8*11]
    mov r12, [rip + split_lock_oracle_cell + {gpr} + 8*12]
    mov r13, [rip + split_lock_oracle_cell + {gpr} + 8*13]
    mov r14, [rip + split_lock_oracle_cell + {gpr} + 8*14]
    mov r15, [rip + split_lock_oracle_cell + {gpr} + 8*15]
    .endm

    .globl split_lock_oracle_run
split_lock_oracle_run:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov [rip + split_lock_oracle_cell + {own_rsp}], rsp
    rdfsbase rax
    mov [rip + split_lock_oracle_cell + {own_fs_base}], rax
    rdgsbase rax
    mov [rip + split_lock_oracle_cell + {own_gs_base}], rax
    cmp qword ptr [rip + split_lock_oracle_cell + {code_selector}], 0
    jne 2f
    mov rax, [rip + split_lock_oracle_cell + {fs_base}]
    wrfsbase rax
    mov rax, [rip + split_lock_oracle_cell + {gs_base}]
    wrgsbase rax
    split_lock_oracle_load
    jmp qword ptr [rip + split_lock_oracle_cell + {rip}]
2:
    movzx eax, word ptr [rip + split_lock_oracle_cell + {selectors} + 0]
    mov ds, eax
    movzx eax, word ptr [rip + split_lock_oracle_cell + {selectors} + 2]
    mov es, eax
    movzx eax, word ptr [rip + split_lock_oracle_cell + {selectors} + 4]
    mov fs, eax
    movzx eax, word ptr [rip + split_lock_oracle_cell + {selectors} + 6]
    mov gs, eax
    movzx eax, word ptr [rip + split_lock_oracle_cell + {selectors} + 8]
    mov ss, eax
    mov rax, [rip + split_lock_oracle_cell + {code_selector}]
    mov [rip + split_lock_oracle_cell + {rip} + 4], eax
    split_lock_oracle_load
    jmp fword ptr [rip + split_lock_oracle_cell + {rip}]

    .globl split_lock_oracle_exit
split_lock_oracle_exit:
    mov [rip + split_lock_oracle_cell + {out_gpr} + 8*0], rax
    mov [rip + split_lock_oracle_cell + {out_gpr} + 8*1], rcx
    mov [rip + split_lock_oracle_cell + {out_gpr} + 8*2], rdx
    mov [rip + split_lock_oracle_cell + {out_gpr} + 8*3], rbx
    mov [rip + split_lock_oracle_cell + {out_gpr} + 8*4], rsp
    mov [rip + split_lock_oracle_cell + {out_gpr} + 8*5], rbp
    mov [rip + split_lock_oracle_cell + {out_gpr} + 8*6], rsi
    mov [rip + split_lock_oracle_cell + {out_gpr} + 8*7], rdi
    mov [rip + split_lock_oracle_cell + {out_gpr} + 8*8], r8
    mov [rip + split_lock_oracle_cell + {out_gpr} + 8*9], r9
    mov [rip + split_lock_oracle_cell + {out_gpr} + 8*10], r10
    mov [rip + split_lock_oracle_cell + {out_gpr} + 8*11], r11
    mov [rip + split_lock_oracle_cell + {out_gpr} + 8*12], r12
    mov [rip + split_lock_oracle_cell + {out_gpr} + 8*13], r13
    mov [rip + split_lock_oracle_cell + {out_gpr} + 8*14], r14
    mov [rip + split_lock_oracle_cell + {out_gpr} + 8*15], r15
    lea rsp, [rip + split_lock_oracle_cell + {stack_top}]
    pushfq
    pop qword ptr [rip + split_lock_oracle_cell + {out_rflags}]
    push 2
    popfq
    cmp qword ptr [rip + split_lock_oracle_cell + {code_selector}], 0
    je 3f
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    mov eax, 0x2b
    mov ss, eax
3:
    mov rax, [rip + split_lock_oracle_cell + {own_fs_base}]
    wrfsbase rax
    mov rax, [rip + split_lock_oracle_cell + {own_gs_base}]
    wrgsbase rax
    mov rsp, [rip + split_lock_oracle_cell + {own_rsp}]
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

    # A signal handler: notes what happened, and goes on at the exit in 64-bit mode with the registers
    # as they are. The context's registers begin at offset 40.
    .globl split_lock_oracle_trapped
split_lock_oracle_trapped:
    pushfq
    and dword ptr [rsp], ~0x40000
    popfq
    mov rax, [rdx + 40 + 8*20]
    mov [rip + split_lock_oracle_cell + {trap}], rax
    mov rax, [rdx + 40 + 8*22]
    mov [rip + split_lock_oracle_cell + {trap_address}], rax
    mov rax, [rdx + 40 + 8*16]
    mov [rip + split_lock_oracle_cell + {trap_rip}], rax
    lea rax, [rip + split_lock_oracle_exit]
    mov [rdx + 40 + 8*16], rax
    mov word ptr [rdx + 40 + 8*18], {user_code}
    mov word ptr [rdx + 40 + 8*18 + 6], 0x2b
    ret
    "#,
    user_code = const USER_CODE,
    size = const mem::size_of::<Cell>(),
    gpr = const offset_of!(Cell, gpr),
    rflags = const offset_of!(Cell, rflags),
    rip = const offset_of!(Cell, rip),
    code_selector = const offset_of!(Cell, code_selector),
    fs_base = const offset_of!(Cell, fs_base),
    gs_base = const offset_of!(Cell, gs_base),
    selectors = const offset_of!(Cell, selectors),
    out_gpr = const offset_of!(Cell, out_gpr),
    out_rflags = const offset_of!(Cell, out_rflags),
    trap = const offset_of!(Cell, trap),
    trap_address = const offset_of!(Cell, trap_address),
    trap_rip = const offset_of!(Cell, trap_rip),
    own_rsp = const offset_of!(Cell, own_rsp),
    own_fs_base = const offset_of!(Cell, own_fs_base),
    own_gs_base = const offset_of!(Cell, own_gs_base),
    stack_top = const offset_of!(Cell, stack_top),
);

unsafe extern "C" {
    static mut split_lock_oracle_cell: Cell;
    fn split_lock_oracle_run();
    safe fn split_lock_oracle_exit();
    safe fn split_lock_oracle_trapped();
}

/// Where made-up code goes when it is done, in 64-bit mode.
pub(crate) fn exit_address() -> u64 {
    split_lock_oracle_exit as *const () as u64
}

/// Memory at a fixed address below 4 GiB, which a forked child shares.
#[derive(Debug)]
pub(crate) struct Arena {
    start: u64,
    bytes: usize,
}

/// What may be done with a part of an [`Arena`] by code in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    ReadWrite,
    ReadOnly,
    Nothing,
    Execute,
}

impl Arena {
    pub(crate) fn new(start: u64, bytes: usize) -> io::Result<Self> {
        // SAFETY: a fresh mapping that replaces nothing, or an error.
        let mapped = unsafe {
            libc::mmap(
                ptr::without_provenance_mut(start as usize),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
                -1,
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start, bytes })
    }

    pub(crate) fn write(&self, address: u64, bytes: &[u8]) {
        self.check(address, bytes.len());
        let to = ptr::with_exposed_provenance_mut(address as usize);
        // SAFETY: inside of this mapping, by the check, and nobody has a reference into it. Writing to
        // a protected page raises a signal and changes nothing.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
    }

    pub(crate) fn read(&self, address: u64, bytes: &mut [u8]) {
        self.check(address, bytes.len());
        let from = ptr::with_exposed_provenance(address as usize);
        // SAFETY: as for writing.
        unsafe { ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) }
    }

    fn protect(&self, address: u64, bytes: usize, access: Access) -> io::Result<()> {
        self.check(address, bytes);
        let protection = match access {
            Access::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
            Access::ReadOnly => libc::PROT_READ,
            Access::Nothing => libc::PROT_NONE,
            Access::Execute => libc::PROT_READ | libc::PROT_EXEC,
        };
        let start = ptr::with_exposed_provenance_mut(address as usize);
        // SAFETY: pages of this mapping only, which no reference points to.
        succeeded(unsafe { libc::mprotect(start, bytes, protection) })
    }

    fn check(&self, address: u64, bytes: usize) {
        let end = address + bytes as u64;
        assert!(
            self.start <= address && end <= self.start + self.bytes as u64,
            "{address:#x} is not in the arena"
        );
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let start = ptr::with_exposed_provenance_mut(self.start as usize);
        // SAFETY: this mapping is ours, and nothing refers to it any more.
        let result = unsafe { libc::munmap(start, self.bytes) };
        debug_assert_eq!(result, 0);
    }
}

/// A list that a forked child shares. It is plain data in an arena of its own.
#[derive(Debug)]
pub(crate) struct Shared<T> {
    start: *mut T,
    length: usize,
}

impl<T: Copy> Shared<T> {
    pub(crate) fn new(length: usize, value: T) -> io::Result<Self> {
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let mapped = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length * mem::size_of::<T>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mut shared = Self {
            start: mapped.cast(),
            length,
        };
        for n in 0..length {
            shared.set(n, value);
        }
        Ok(shared)
    }

    pub(crate) fn get(&self, n: usize) -> T {
        assert!(n < self.length);
        // SAFETY: one of `length` values, which `new` has initialized.
        let place = unsafe { self.start.add(n) };
        // SAFETY: as above; a mapping is aligned for anything.
        unsafe { place.read() }
    }

    pub(crate) fn set(&mut self, n: usize, value: T) {
        assert!(n < self.length);
        // SAFETY: one of the `length` values that the mapping has room for.
        let place = unsafe { self.start.add(n) };
        // SAFETY: as above; a mapping is aligned for anything.
        unsafe { place.write(value) }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: this mapping is ours, and nothing refers to it any more.
        let result = unsafe { libc::munmap(self.start.cast(), self.length * mem::size_of::<T>()) };
        debug_assert_eq!(result, 0);
    }
}

/// An entry of the local descriptor table, as modify_ldt(2) wants it.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct LdtEntry {
    pub(crate) number: u32,
    pub(crate) base: u32,
    pub(crate) limit: u32,
    pub(crate) flags: u32,
}

/// Gives this process, and not others, descriptors of its own.
fn install(entries: &[LdtEntry]) -> io::Result<()> {
    const WRITE: libc::c_long = 0x11;
    for entry in entries {
        let bytes = mem::size_of::<LdtEntry>();
        // SAFETY: the kernel reads one entry; it changes only what selectors mean that nobody uses.
        let result =
            unsafe { libc::syscall(libc::SYS_modify_ldt, WRITE, ptr::from_ref(entry), bytes) };
        if result as i32 != 0 {
            return Err(io::Error::from_raw_os_error(-(result as i32)));
        }
    }
    Ok(())
}

/// What a child needs to execute tasks.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) arena: &'a Arena,
    /// Parts of the arena: start, length, access.
    pub(crate) access: &'a [(u64, usize, Access)],
    pub(crate) descriptors: &'a [LdtEntry],
}

/// Why a child ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfinished {
    #[error("a child could not be prepared for executing instructions")]
    Setup(#[source] io::Error),
    #[error("signal {0} has killed the child at its first task that is not done")]
    Killed(i32),
}

/// The kernel lets programs read and write the bases of FS and GS, which the code here does.
pub(crate) fn has_fsgsbase() -> bool {
    const FSGSBASE: libc::c_ulong = 1 << 1;
    // SAFETY: getauxval only looks a number up.
    (unsafe { libc::getauxval(libc::AT_HWCAP2) }) & FSGSBASE != 0
}

/// Executes the first `count` tasks in a child.
pub(crate) fn execute(
    surroundings: &Surroundings<'_>,
    tasks: &Shared<Task>,
    outcomes: &mut Shared<Outcome>,
    count: usize,
) -> Result<(), Unfinished> {
    // SAFETY: the child only makes system calls and copies memory until it ends with _exit; it
    // allocates nothing and takes no lock that another thread might have held.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(Unfinished::Setup(io::Error::last_os_error())),
        0 => {
            let code = match in_child(surroundings, tasks, outcomes, count) {
                Ok(()) => 0,
                Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
            };
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(code) }
        }
        _ => wait_for(child),
    }
}

fn wait_for(child: libc::pid_t) -> Result<(), Unfinished> {
    let mut status = 0;
    // SAFETY: a child of ours, and a place for its status.
    if unsafe { libc::waitpid(child, &raw mut status, 0) } != child {
        return Err(Unfinished::Setup(io::Error::last_os_error()));
    }
    match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
        (true, 0) => Ok(()),
        (true, errno) => Err(Unfinished::Setup(io::Error::from_raw_os_error(errno))),
        (false, _) => Err(Unfinished::Killed(libc::WTERMSIG(status))),
    }
}

fn in_child(
    surroundings: &Surroundings<'_>,
    tasks: &Shared<Task>,
    outcomes: &mut Shared<Outcome>,
    count: usize,
) -> io::Result<()> {
    const PATIENCE_SECONDS: u32 = 120;
    // SAFETY: only sets this process's own timer, whose signal ends it.
    unsafe { libc::alarm(PATIENCE_SECONDS) };
    install(surroundings.descriptors)?;
    catch_traps()?;
    for &(start, bytes, access) in surroundings.access {
        surroundings.arena.protect(start, bytes, access)?;
    }
    for n in 0..count {
        outcomes.set(n, run(&tasks.get(n), surroundings.arena));
    }
    Ok(())
}

/// Traps are noted on a stack of their own, because RSP has any value when they happen.
fn catch_traps() -> io::Result<()> {
    const STACK_BYTES: usize = 1 << 16;
    static mut STACK: [u8; STACK_BYTES] = [0; STACK_BYTES];
    let stack = libc::stack_t {
        ss_sp: (&raw mut STACK).cast(),
        ss_flags: 0,
        ss_size: STACK_BYTES,
    };
    // SAFETY: the stack lives for ever, and only the kernel uses it.
    succeeded(unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) })?;
    // SAFETY: zero is a valid value for all of its fields.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = split_lock_oracle_trapped as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    for signal in [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGFPE,
    ] {
        // SAFETY: the handler is assembled above for exactly these flags. It uses nothing of
        // Rust's or of the C library's.
        succeeded(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) })?;
    }
    Ok(())
}

fn run(task: &Task, arena: &Arena) -> Outcome {
    if task.poke_at != 0 {
        arena.write(task.poke_at, &task.poke);
    }
    let cell = &raw mut split_lock_oracle_cell;
    // SAFETY: the child has one thread, and only this function and the code it calls use the cell.
    unsafe { cell.write(Cell::of(task)) };
    // SAFETY: it restores the registers that a C function has to, and FS and GS. The instruction in
    // between writes nothing but its operand, which lies in the arena or where nothing is mapped
    // for it to be written.
    unsafe { split_lock_oracle_run() };
    // SAFETY: as above.
    let cell = unsafe { cell.read() };
    let mut outcome = Outcome {
        gpr: cell.out_gpr,
        rflags: cell.out_rflags,
        trap: cell.trap,
        trap_address: cell.trap_address,
        trap_rip: cell.trap_rip,
        window: [0; WINDOW_BYTES],
        done: true,
    };
    arena.read(task.window_at, &mut outcome.window);
    outcome
}

fn succeeded(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
