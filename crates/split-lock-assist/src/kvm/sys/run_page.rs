//! The page that KVM shares with the VMM for each vCPU.

use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

use kvm_bindings::{
    KVM_EXIT_DEBUG, KVM_EXIT_IO, KVM_EXIT_IO_OUT, kvm_debug_exit_arch, kvm_regs, kvm_run,
    kvm_sregs, kvm_sync_regs, kvm_vcpu_events,
};

use crate::cpu::Registers;

const PAGE_BYTES: usize = 4096;
const _: () = assert!(size_of::<kvm_run>() <= PAGE_BYTES);

/// A mapping of our own of a vCPU's run page, so that the VMM's is not needed.
///
/// KVM writes to it while KVM_RUN is on its way, and the VMM at any time; so all accesses are volatile, and what is read
/// is plain numbers of which any combination is valid.
#[derive(Debug)]
pub(in crate::kvm) struct RunPage(NonNull<kvm_run>);

// SAFETY: the mapping is the process's and not a thread's, and nothing else has this address.
unsafe impl Send for RunPage {}

/// A field of the page, read or written as a whole.
macro_rules! field {
    ($page:expr, $($field:tt)+) => {
        // SAFETY: the address is one within the mapped page, of a field of `kvm_run`; no reference is made.
        unsafe { &raw mut (*$page.0.as_ptr()).$($field)+ }
    };
}

impl RunPage {
    pub(in crate::kvm) fn map(vcpu: BorrowedFd<'_>) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                PAGE_BYTES,
                access,
                libc::MAP_SHARED,
                vcpu.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self(start.cast()))
    }

    pub(in crate::kvm) fn flags(&self) -> u16 {
        get(field!(self, flags))
    }

    /// What is known of the last exit, if it was of the kind "debug".
    pub(in crate::kvm) fn debug_exit(&self) -> Option<kvm_debug_exit_arch> {
        let is_debug = get(field!(self, exit_reason)) == KVM_EXIT_DEBUG;
        is_debug.then(|| get(field!(self, __bindgen_anon_1.debug.arch)))
    }

    /// The last exit was OUT to this port.
    pub(in crate::kvm) fn is_port_write(&self, port: u16) -> bool {
        let is_port = get(field!(self, exit_reason)) == KVM_EXIT_IO;
        let written = || {
            u32::from(get(field!(self, __bindgen_anon_1.io.direction))) == KVM_EXIT_IO_OUT
                && get(field!(self, __bindgen_anon_1.io.port)) == port
        };
        is_port && written()
    }

    pub(in crate::kvm) fn valid(&self) -> u64 {
        get(field!(self, kvm_valid_regs))
    }

    pub(in crate::kvm) fn set_valid(&self, registers: u64) {
        set(field!(self, kvm_valid_regs), registers);
    }

    pub(in crate::kvm) fn dirty(&self) -> u64 {
        get(field!(self, kvm_dirty_regs))
    }

    pub(in crate::kvm) fn set_dirty(&self, registers: u64) {
        set(field!(self, kvm_dirty_regs), registers);
    }

    pub(in crate::kvm) fn registers(&self) -> Registers {
        let word = |offset| get(self.register(offset));
        Registers {
            gpr: [
                word(offset_of!(kvm_regs, rax)),
                word(offset_of!(kvm_regs, rcx)),
                word(offset_of!(kvm_regs, rdx)),
                word(offset_of!(kvm_regs, rbx)),
                word(offset_of!(kvm_regs, rsp)),
                word(offset_of!(kvm_regs, rbp)),
                word(offset_of!(kvm_regs, rsi)),
                word(offset_of!(kvm_regs, rdi)),
                word(offset_of!(kvm_regs, r8)),
                word(offset_of!(kvm_regs, r9)),
                word(offset_of!(kvm_regs, r10)),
                word(offset_of!(kvm_regs, r11)),
                word(offset_of!(kvm_regs, r12)),
                word(offset_of!(kvm_regs, r13)),
                word(offset_of!(kvm_regs, r14)),
                word(offset_of!(kvm_regs, r15)),
            ],
            rip: word(offset_of!(kvm_regs, rip)),
            rflags: word(offset_of!(kvm_regs, rflags)),
        }
    }

    pub(in crate::kvm) fn set_registers(&self, registers: &Registers) {
        let word = |offset, value| set(self.register(offset), value);
        let gpr = &registers.gpr;
        word(offset_of!(kvm_regs, rax), gpr[0]);
        word(offset_of!(kvm_regs, rcx), gpr[1]);
        word(offset_of!(kvm_regs, rdx), gpr[2]);
        word(offset_of!(kvm_regs, rbx), gpr[3]);
        word(offset_of!(kvm_regs, rsp), gpr[4]);
        word(offset_of!(kvm_regs, rbp), gpr[5]);
        word(offset_of!(kvm_regs, rsi), gpr[6]);
        word(offset_of!(kvm_regs, rdi), gpr[7]);
        word(offset_of!(kvm_regs, r8), gpr[8]);
        word(offset_of!(kvm_regs, r9), gpr[9]);
        word(offset_of!(kvm_regs, r10), gpr[10]);
        word(offset_of!(kvm_regs, r11), gpr[11]);
        word(offset_of!(kvm_regs, r12), gpr[12]);
        word(offset_of!(kvm_regs, r13), gpr[13]);
        word(offset_of!(kvm_regs, r14), gpr[14]);
        word(offset_of!(kvm_regs, r15), gpr[15]);
        word(offset_of!(kvm_regs, rip), registers.rip);
        word(offset_of!(kvm_regs, rflags), registers.rflags);
    }

    pub(in crate::kvm) fn special(&self) -> kvm_sregs {
        // SAFETY: as in `register`.
        get_words(unsafe { &raw mut (*self.synced()).sregs })
    }

    /// Whether those of the special registers are these that decide about instructions and addresses: the segments that
    /// operands lie in, which come first, and some of the control registers.
    pub(in crate::kvm) fn has_special(&self, special: &kvm_sregs) -> bool {
        const SEGMENTS: usize = offset_of!(kvm_sregs, tr) / 8;
        // SAFETY: as in `register`.
        let field = unsafe { &raw mut (*self.synced()).sregs };
        let word = |offset| get(field.cast::<u64>().wrapping_byte_add(offset));
        let words = ptr::from_ref(special).cast::<u64>();
        word(offset_of!(kvm_sregs, cr3)) == special.cr3
            && word(offset_of!(kvm_sregs, cr0)) == special.cr0
            && word(offset_of!(kvm_sregs, cr4)) == special.cr4
            && word(offset_of!(kvm_sregs, efer)) == special.efer
            && (0..SEGMENTS).all(|n| {
                // SAFETY: within `special`, whose segments have no padding between their numbers.
                let known = unsafe { words.wrapping_add(n).read() };
                word(8 * n) == known
            })
    }

    pub(in crate::kvm) fn events(&self) -> kvm_vcpu_events {
        // SAFETY: as in `register`.
        get_words(unsafe { &raw mut (*self.synced()).events })
    }

    pub(in crate::kvm) fn end_shadow(&self) {
        // SAFETY: as in `register`.
        set(
            unsafe { &raw mut (*self.synced()).events.interrupt.shadow },
            0,
        );
    }

    /// One of `kvm_regs`, all of which have 64 bits.
    fn register(&self, offset: usize) -> *mut u64 {
        // SAFETY: the address is one within the mapped page; no reference is made.
        let registers = unsafe { &raw mut (*self.synced()).regs };
        registers.wrapping_byte_add(offset).cast()
    }

    fn synced(&self) -> *mut kvm_sync_regs {
        field!(self, s.regs)
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: this mapping is ours, and nothing borrows from it.
        unsafe { libc::munmap(self.0.as_ptr().cast(), PAGE_BYTES) };
    }
}

fn get<T: Copy>(field: *mut T) -> T {
    // SAFETY: only called here with fields of a page that is mapped for as long as its `RunPage`; they are aligned, and
    // consist of numbers.
    unsafe { field.read_volatile() }
}

fn set<T: Copy>(field: *mut T, value: T) {
    // SAFETY: as in `get`.
    unsafe { field.write_volatile(value) };
}

/// As `get`, word by word: volatile accesses to a structure become one for each of its bytes otherwise.
fn get_words<T: Copy>(field: *mut T) -> T {
    const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() == 8) };
    let mut value = MaybeUninit::<T>::uninit();
    let to = value.as_mut_ptr().cast::<u64>();
    for n in 0..size_of::<T>() / 8 {
        let word = get(field.cast::<u64>().wrapping_add(n));
        // SAFETY: within `value`, which has as many words and their alignment.
        unsafe { to.wrapping_add(n).write(word) };
    }
    // SAFETY: all its words have been written, and any numbers are a T.
    unsafe { value.assume_init() }
}
