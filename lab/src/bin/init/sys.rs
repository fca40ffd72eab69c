//! The CPU's results port, the kernel's log, and split locks.
#![expect(
    unsafe_code,
    reason = "instructions that Rust does not have, signal handlers, and calls without safe wrappers"
)]

use std::arch::asm;
use std::arch::x86_64::_rdtsc;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use split_lock_lab::cpu::script::RESULTS_PORT;

/// Bytes written to it come out of the machine. It is good on the thread that has opened it.
#[derive(Debug)]
pub(crate) struct ResultsPort {
    /// Permission is a thread's own.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl ResultsPort {
    pub(crate) fn open() -> io::Result<Self> {
        // SAFETY: it lets this thread use a port that belongs to no device.
        let result = unsafe { libc::ioperm(RESULTS_PORT.into(), 1, 1) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            _not_send: std::marker::PhantomData,
        })
    }
}

impl Write for ResultsPort {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // SAFETY: reads the bytes of the slice; `open` has got permission for the port on this thread.
        unsafe {
            asm!(
                "rep outsb",
                in("dx") RESULTS_PORT,
                inout("rsi") bytes.as_ptr() => _,
                inout("rcx") bytes.len() => _,
                options(nostack, readonly),
            );
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The moment, in ticks of the CPU's journal.
pub(crate) fn ticks() -> u64 {
    // SAFETY: any program may read the CPU's count of ticks, unless it has forbidden that to itself.
    unsafe { _rdtsc() }
}

/// Everything that the kernel has logged so far, as `dmesg` shows it.
pub(crate) fn kernel_log() -> io::Result<Vec<u8>> {
    const READ_ALL: libc::c_int = 3;
    let mut log = vec![0u8; 1 << 20];
    let size = libc::c_int::try_from(log.len()).expect("a mebibyte");
    // SAFETY: the kernel writes at most `size` bytes.
    let read = unsafe { libc::klogctl(READ_ALL, log.as_mut_ptr().cast(), size) };
    if read < 0 {
        return Err(io::Error::last_os_error());
    }
    log.truncate(read.unsigned_abs() as usize);
    Ok(log)
}

/// What interrupts a thread. Nothing else in this program uses it.
pub(crate) const KICK: Signal = Signal::SIGUSR1;

/// Where the instruction of [`CrossingWord::increment`] lies, once it has run.
static SPLIT_LOCK: AtomicU64 = AtomicU64::new(0);
const SPLIT_LOCK_BYTES: u64 = 4;

static SIGBUS_COUNT: AtomicU64 = AtomicU64::new(0);

/// How many SIGBUS there have been.
pub(crate) fn sigbus_count() -> u64 {
    SIGBUS_COUNT.load(Ordering::Relaxed)
}

/// A thread that a signal finds at its split lock goes on behind it, so that each is one try.
extern "C" fn leave_split_lock(
    signal: libc::c_int,
    _info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    if signal == libc::SIGBUS {
        SIGBUS_COUNT.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the kernel passes the interrupted thread's context, which is this handler's alone.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let ip = &mut context.uc_mcontext.gregs[libc::REG_RIP as usize];
    let split_lock = SPLIT_LOCK.load(Ordering::Relaxed);
    if ip.cast_unsigned() == split_lock {
        *ip = (split_lock + SPLIT_LOCK_BYTES).cast_signed();
    }
}

/// Makes kicks and SIGBUS interrupt system calls, and single split locks.
pub(crate) fn install_handlers() -> nix::Result<()> {
    // Without SA_RESTART.
    let handler = SigHandler::SigAction(leave_split_lock);
    let action = SigAction::new(handler, SaFlags::SA_SIGINFO, SigSet::empty());
    for signal in [KICK, Signal::SIGBUS] {
        // SAFETY: the handler uses nothing but atomics and its arguments, so it may run at any point of the program.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Two cache lines, and a 32-bit word that lies in both.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct CrossingWord([u8; 128]);

const OFFSET: usize = 62;

impl Default for CrossingWord {
    fn default() -> Self {
        Self([0; 128])
    }
}

impl CrossingWord {
    /// Adds one in a single split lock; the answer is whether it came to that.
    #[inline(never)]
    pub(crate) fn increment(&mut self) -> bool {
        let before = self.get();
        let word = self.0[OFFSET..].as_mut_ptr();
        // SAFETY: the four bytes at the word are inside of the array, which is borrowed for writing. Where a signal finds
        // the instruction, `leave_split_lock` leads to the one behind it, which is as good for the compiler.
        unsafe {
            asm!(
                "lea {address}, [rip + 2f]",
                "mov [{place}], {address}",
                "2: lock add dword ptr [rdi], 1",
                address = out(reg) _,
                place = in(reg) SPLIT_LOCK.as_ptr(),
                in("rdi") word,
                options(nostack),
            );
        }
        self.get() != before
    }

    fn get(&self) -> u32 {
        let bytes = &self.0[OFFSET..OFFSET + 4];
        u32::from_le_bytes(bytes.try_into().expect("four bytes"))
    }
}
