//! The split lock itself: Rust's atomics are aligned, so it takes assembly. And a signal handler.
#![expect(unsafe_code, reason = "inline assembly, a signal handler")]

use std::arch::asm;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

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

/// Lets a signal interrupt what the kernel does, and nothing else.
pub(crate) fn handle(signal: Signal) -> nix::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    let action = SigAction::new(
        SigHandler::Handler(nothing),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing.
    unsafe { sigaction(signal, &action) }.map(drop)
}

impl CrossingWord {
    /// Adds one so many times, at least once, each in a split lock; the answer is that instruction's address.
    #[inline(never)]
    pub(crate) fn increment(&mut self, times: u32) -> u64 {
        let word = self.0[OFFSET..].as_mut_ptr();
        let address: u64;
        // SAFETY: the four bytes at `word` are inside of the array, which is borrowed for writing.
        unsafe {
            asm!(
                "lea {address}, [rip + 2f]",
                "2: lock add dword ptr [{word}], 1",
                "dec {times:e}",
                "jnz 2b",
                word = in(reg) word,
                times = inout(reg) times.max(1) => _,
                address = out(reg) address,
                options(nostack),
            );
        }
        address
    }

    pub(crate) fn get(&self) -> u32 {
        let bytes = &self.0[OFFSET..OFFSET + 4];
        u32::from_le_bytes(bytes.try_into().expect("four bytes"))
    }
}
