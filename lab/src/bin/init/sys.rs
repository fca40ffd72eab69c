//! The CPU's results port, and the kernel's log.
#![expect(
    unsafe_code,
    reason = "I/O and time-stamp instructions; ioperm and klogctl have no safe wrappers"
)]

use std::arch::asm;
use std::arch::x86_64::_rdtsc;
use std::io::{self, Write};

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
