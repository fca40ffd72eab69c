//! Everything that is unsafe, and every system call, behind safe types.

mod kvm;
mod signal;
mod timer;

pub(crate) use kvm::{RunPage, borrow_fd, enter, set_signal_mask};
pub(crate) use signal::{
    HandlerRegistration, InstalledHandler, KernelSigset, Received, Tid, current_tid,
    has_foreign_handler, is_pending, realtime_signals, receive, send_signal, set_blocked,
    thread_mask,
};
pub(crate) use timer::{Clock, Timer, clock_now_ns};
