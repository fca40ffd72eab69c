//! The lower layer of `kvm-preemption-timer` for C: `include/kvm_preemption_timer.h` and a static
//! library.
//!
//! `cargo build --release -p kvm-preemption-timer-c` makes `libkvm_preemption_timer_c.a`; the header
//! says what to link beside it. `examples/run_loop.c` is a whole VMM. This page is about how the
//! library is made; what the functions do is in the header.
//!
//! Errors are negative error numbers, as in the kernel's API, and a sentence that
//! `kpt_last_error` returns.

mod failure;
mod kinds;
mod sys;

pub use sys::{
    kpt_arm, kpt_bind, kpt_interrupted, kpt_kick, kpt_kicker_free, kpt_kicker_new, kpt_last_error,
    kpt_unbind,
};
