//! The program of a Linux guest, assembled.

use std::arch::global_asm;

use crate::linux::program::SPLIT_LOCKS;

global_asm!(
    include_str!("../linux/program.s"),
    split_locks = const SPLIT_LOCKS,
);

payload!(
    /// What runs as the guest's first process, and what its shell starts.
    linux_program,
    split_lock_repro_linux_program,
    split_lock_repro_linux_program_end
);
