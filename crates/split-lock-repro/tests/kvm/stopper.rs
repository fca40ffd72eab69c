//! Runs a guest for a while: a helper thread interrupts the vCPU's thread with a signal.
#![expect(unsafe_code, reason = "signals have no safe form in std")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Once, mpsc};
use std::thread;
use std::time::Duration;

use kvm_ioctls::VcpuFd;
use split_lock_repro::vm::ExitCause;

/// Runs the vCPU until `duration` has passed, whatever it does in between to the debug port, or
/// until it exits by itself. Returns how often it wrote to that port, and the exit.
pub(crate) fn run_for(vcpu: &mut VcpuFd, duration: Duration) -> (u64, Option<ExitCause>) {
    let timed_out = AtomicBool::new(false);
    let (done, until_done) = mpsc::channel::<()>();
    install_empty_handler();
    // SAFETY: takes nothing, and names a thread that lives as long as the scope below.
    let this_thread = unsafe { libc::pthread_self() };
    thread::scope(|scope| {
        let timed_out = &timed_out;
        scope.spawn(move || {
            let mut wait = duration;
            // Again and again, because a signal just before KVM_RUN has no effect.
            while until_done.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                timed_out.store(true, Ordering::SeqCst);
                // SAFETY: the thread is alive, because it waits for this one to end.
                unsafe { libc::pthread_kill(this_thread, libc::SIGUSR1) };
                wait = Duration::from_millis(1);
            }
        });
        let outcome = run_until(vcpu, timed_out);
        drop(done);
        outcome
    })
}

fn run_until(vcpu: &mut VcpuFd, timed_out: &AtomicBool) -> (u64, Option<ExitCause>) {
    let mut debug_writes = 0;
    while !timed_out.load(Ordering::SeqCst) {
        match vcpu.run() {
            Ok(exit) => match ExitCause::from(&exit) {
                cause if cause.is_debug_output() => debug_writes += 1,
                cause => return (debug_writes, Some(cause)),
            },
            Err(error) if error.errno() == libc::EINTR => {}
            Err(error) => panic!("KVM_RUN failed: {error}"),
        }
    }
    (debug_writes, None)
}

extern "C" fn ignore(_signal: libc::c_int) {}

fn install_empty_handler() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let handler = ignore as extern "C" fn(libc::c_int);
        // SAFETY: the handler does nothing, which is right at any moment and in any thread.
        let before = unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
        assert_ne!(before, libc::SIG_ERR);
    });
}
