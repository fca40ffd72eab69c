//! Everything that is unsafe, and every system call, behind safe types.

mod handler;
mod kvm;
mod signal;
mod timer;

pub(crate) use handler::{HandlerRegistration, InstalledHandler, has_foreign_handler};
pub(crate) use kvm::{RunPage, borrow_fd, enter, set_signal_mask};
pub(crate) use signal::{
    KernelSigset, Tid, current_tid, is_pending, receive, send_signal, set_blocked, thread_mask,
};
pub(crate) use timer::{Clock, Timer, clock_now_ns};
