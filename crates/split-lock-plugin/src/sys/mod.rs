//! All unsafe code of this crate: QEMU's interface, shared memory, and system calls.
#![expect(
    unsafe_code,
    reason = "QEMU calls us and is called by C functions, and the records are mapped memory"
)]

mod calls;
mod entry;
mod guest;
mod interface;
mod memory;

pub(crate) use calls::{execute, is_writable, read_own_memory, thread_id, thread_name};
pub(crate) use memory::{create_records, zeroed};
