//! What `splitlock find` and its plugin for QEMU have in common.
//!
//! The command starts a program in QEMU's user-mode emulator with the plugin `split-lock-plugin`. The plugin
//! writes what it sees to a file that both know the format of ([`records`]), and starts the programs that the
//! first one executes in the emulator as well, so both have to know what the kernel would make of a file
//! ([`executable`]) and how the emulator is started ([`emulator`]).
//!
//! Nothing here maps memory or makes a system call other than to look at files.

#![forbid(unsafe_code)]

pub mod emulator;
pub mod executable;
pub mod records;
