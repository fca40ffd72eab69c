//! The emulated host on real KVM. Skipped without KVM, as the other tests are.
//!
//! Ticks and timers are real here, so that these tests run one after the other: two CPUs do not
//! suffice for more.

use std::sync::{Mutex, MutexGuard, PoisonError};

#[path = "../common/mod.rs"]
mod common;

mod fidelity;
mod guard;
mod rules;
mod two_tasks;

use common::{LEVELS, detects_split_locks, file_guest, guest, kvm};

/// The machine, for as long as it is held.
fn machine() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}
