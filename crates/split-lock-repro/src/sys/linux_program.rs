//! The program of a Linux guest, assembled.

use std::arch::global_asm;

/// How many split locks the program does before it goes back to normal.
pub const SPLIT_LOCKS: u32 = 1000;

global_asm!(
    include_str!("../linux/program.s"),
    split_locks = const SPLIT_LOCKS,
);

payloads! {
    /// An ELF file: what runs as the guest's first process, and what its shell starts.
    linux_program;
}
