//! A library that a VMM is started with (`LD_PRELOAD`), so that its guests get past split locks on a host that punishes
//! them: `splitlock run` does it. The VMM is not changed, and needs no privilege that it has not.
//!
//! It takes the place of one function of the C library, `ioctl`, and passes everything on. From the calls of KVM it learns
//! which VMs and vCPUs there are, and which memory they have. A thread of its own looks every few milliseconds whether the
//! kernel is punishing a thread that is in KVM_RUN. If so, that thread gets a signal, and between two KVM_RUNs the
//! instruction is done in the CPU's place by [`split_lock_assist`], which then sets a breakpoint there: the next time it is
//! done before the CPU traps.
//!
//! # What the VMM sees
//! - Of KVM_RUN, results that KVM could have given. An interruption by our signal alone is not shown, nor are exits of our
//!   breakpoints. If other signals have come meanwhile, EINTR is returned.
//! - `immediate_exit` is never touched, registers in the run page only as KVM would (`split_lock_assist::kvm`).
//! - KVM_SET_SIGNAL_MASK: our signal is taken out of the set. KVM_SET_GUEST_DEBUG: while the VMM debugs its guest, the
//!   breakpoints are the VMM's, and nothing is emulated.
//! - KVM_SET_USER_MEMORY_REGION takes as long as an instruction that is being emulated: nothing is written to memory after
//!   the VMM has taken it back. KVM_GET_DIRTY_LOG tells the pages that were written here, too.
//! - One thread more in the process, one real-time signal that it has no handler for, and descriptors from 512 on. A thread
//!   that runs a vCPU has that signal unblocked.
//! - No system call more for a KVM_RUN, as long as nobody is punished.
//!
//! # How it is built
//! | module | what it is |
//! |---|---|
//! | [`interpose`] | what is done about each call |
//! | [`process`] | VMs and vCPUs by file descriptor; a forked child has its own |
//! | [`slots`], [`mappings`] | the guest's memory |
//! | [`vcpu`], [`vm`] | KVM_RUN, and what comes after it |
//! | [`emulation`], [`help`] | the guard of one vCPU, and what all of them need |
//! | [`presence`] | which thread is in KVM_RUN, and kicking it out |
//! | [`watchdog`], [`sampling`] | who is being punished |
//! | [`report`] | what was seen and done, as a file |
//!
//! A descriptor that the VMM has closed is not heard of. So there is a duplicate of each, and where it matters kcmp(2) says
//! whether the VMM's number still stands for the same. Duplicates whose originals are closed are closed as well, when the
//! next VM or vCPU is made, and after a second at most.
//!
//! A kick has to end a KVM_RUN that is about to begin, and not one thereafter. The handler sees where it has interrupted the
//! thread: if that was just before the system call, it makes the thread leave without it.
//!
//! # Limits
//! - System calls that are not made through the C library's `ioctl` are not seen.
//! - A VMM that jumps out of a signal handler (`siglongjmp`) while it is in KVM_RUN has that thread left alone from then
//!   on; and so has one that takes our signal for itself, or blocks it in a thread that runs a vCPU.
//! - A VMM that relies on a signal handler without `immediate_exit` and without KVM_SET_SIGNAL_MASK to end a KVM_RUN loses
//!   signals that come just before it. It may lose one that comes while an instruction is done at a breakpoint, too.
//! - A VMM that gives a vCPU another number (dup(2)), closes the first, and runs it for the first time a second later, is
//!   left alone.
//! - Without kcmp(2) (some containers) the VMM's numbers are trusted.
//! - Where the kernel hides what a thread waits for (`/proc/PID/wchan`), every vCPU that waits is looked at, also those
//!   that are idle.
//!
//! # Environment
//! | variable | |
//! |---|---|
//! | `SPLITLOCK_RUN_GUARD` | `emulate`, or `report` to count and do nothing |
//! | `SPLITLOCK_RUN_REPORTS` | a folder for a file `PID.json` of each process that uses KVM |
//! | `SPLITLOCK_RUN_FEIGN_STALLS` | for tests: if not empty, every vCPU is taken for a punished one |
#![expect(
    rustdoc::private_intra_doc_links,
    reason = "the library has no interface but `ioctl`"
)]

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

mod emulation;
mod help;
mod interpose;
mod mappings;
mod presence;
mod process;
mod report;
mod request;
mod sampling;
mod settings;
mod slots;
mod sys;
mod vcpu;
mod vm;
mod watchdog;

/// A panic is caught, and what is behind a lock is whole at any moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
