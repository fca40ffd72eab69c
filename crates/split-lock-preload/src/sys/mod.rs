//! All unsafe code of this crate: the function that takes the place of the C library's, signals, and the guest's memory.
#![expect(
    unsafe_code,
    reason = "C calls us, KVM's structures come by address, and signals interrupt us"
)]

mod calls;
mod entry;
mod fork;
mod memory;
mod run;
mod signal;
mod thread;

pub(crate) use calls::{
    Errno, ThreadId, duplicate, has_character_device_at, is_open, process_id, same_file,
    thread_cpu_time, thread_id,
};
pub(crate) use entry::{raw_ioctl, while_busy};
pub(crate) use fork::per_process;
pub(crate) use memory::{Argument, GuestMemory, SignalMask, merge_dirty_pages, read_argument};
pub(crate) use run::{Interruption, RunEnd};
pub(crate) use signal::{KickSignal, block_all_in_new_threads};
pub(crate) use thread::Thread;
