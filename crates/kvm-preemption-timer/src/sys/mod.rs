//! Everything that is unsafe, and every system call, behind safe types.

use std::io;

use crate::Error;

mod handler;
mod kvm;
#[cfg(feature = "kvm-ioctls")]
mod kvm_ioctls;
mod signal;
mod slots;
mod timer;

pub(crate) use handler::{InstalledHandler, has_foreign_handler};
pub(crate) use kvm::{RunPage, set_signal_mask};
#[cfg(feature = "kvm-ioctls")]
pub(crate) use kvm_ioctls::{borrow_fd, enter};
pub(crate) use signal::{
    Process, Tid, current_tid, is_pending, receive, send_signal, set_blocked, thread_mask,
};
pub(crate) use slots::HandlerRegistration;
pub(crate) use timer::{Clock, Timer, clock_now_ns};

/// What a call on the calling thread returned, where that is an error's number.
fn check_errno(errno: i32, call: &'static str) -> Result<(), Error> {
    match errno {
        0 => Ok(()),
        _ => Err(Error::System {
            call,
            target: "the calling thread",
            source: io::Error::from_raw_os_error(errno),
        }),
    }
}
