//! Forcing a vCPU out from another thread.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sys::{self, Tid};
use crate::{KickError, Signal};

/// Forces one vCPU out of the guest, from any thread and at any moment.
///
/// A kick is never lost: if it comes while no run is active, also just before KVM_RUN, the next
/// run ends at once. Kicks that come before the vCPU's thread has taken notice count as one.
///
/// It is not meant for signal handlers: it takes a lock.
#[derive(Debug, Clone)]
pub struct Kicker(Arc<KickState>);

/// What the vCPU's thread and its kickers share.
#[derive(Debug)]
struct KickState {
    /// Set before the signal is sent, taken after it was consumed: so whoever finds it set has seen
    /// the signal, or will.
    kicked: AtomicBool,
    /// The thread to signal, for as long as it is sure to be that thread. The lock is held while
    /// the signal is sent, so that it cannot reach a later thread with the same id.
    target: Mutex<Option<(Tid, Signal)>>,
}

impl Kicker {
    /// Makes the current run, or else the next one, end with
    /// [`Outcome::Kicked`](crate::Outcome::Kicked). What this thread wrote before the kick can be
    /// read by the vCPU's thread after that outcome.
    ///
    /// # Errors
    /// [`KickError::Gone`] once the vCPU is not bounded any more, and [`KickError::NotSent`] if a
    /// real-time signal meets the limit of queued signals.
    pub fn kick(&self) -> Result<(), KickError> {
        self.kick_with(sys::send_signal)
    }

    fn kick_with(&self, send: impl FnOnce(Tid, Signal) -> io::Result<()>) -> Result<(), KickError> {
        let target = self.lock_target();
        let (tid, signal) = target.ok_or(KickError::Gone)?;
        if self.0.kicked.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        send(tid, signal).map_err(|source| {
            self.0.kicked.store(false, Ordering::Release);
            KickError::NotSent { signal, source }
        })
    }

    fn lock_target(&self) -> MutexGuard<'_, Option<(Tid, Signal)>> {
        // The lock guards a plain value that no panic can leave half written.
        self.0.target.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The vCPU's end. Dropping it makes every [`Kicker`] fail with [`KickError::Gone`].
#[derive(Debug)]
pub(crate) struct KickTarget(Kicker);

impl KickTarget {
    /// For the calling thread.
    pub(crate) fn new(signal: Signal) -> Self {
        KickTarget(Kicker(Arc::new(KickState {
            kicked: AtomicBool::new(false),
            target: Mutex::new(Some((sys::current_tid(), signal))),
        })))
    }

    pub(crate) fn kicker(&self) -> Kicker {
        self.0.clone()
    }

    /// Whether there was a kick; the next answer is no unless there is another.
    pub(crate) fn take(&self) -> bool {
        let kicked = &self.0.0.kicked;
        kicked.load(Ordering::Relaxed) && kicked.swap(false, Ordering::AcqRel)
    }
}

impl Drop for KickTarget {
    fn drop(&mut self) {
        *self.0.lock_target() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise whoever takes the signal would find no kick, and nothing would come after it.
    #[test]
    fn the_flag_is_set_before_the_signal_is_sent() {
        let kicker = &KickTarget::new(Signal::default()).0;
        let send = |_, _| {
            assert!(kicker.0.kicked.load(Ordering::Acquire));
            Ok(())
        };
        kicker.kick_with(send).unwrap();
    }

    #[test]
    fn kicks_that_nobody_has_taken_yet_send_one_signal() {
        let target = KickTarget::new(Signal::default());
        let sent = std::cell::Cell::new(0);
        let send = |_, _| {
            sent.set(sent.get() + 1);
            Ok(())
        };
        target.0.kick_with(send).unwrap();
        target.0.kick_with(send).unwrap();
        assert_eq!((sent.get(), target.take(), target.take()), (1, true, false));
        target.0.kick_with(send).unwrap();
        assert_eq!(sent.get(), 2);
    }

    #[test]
    fn a_kick_that_could_not_be_sent_is_no_kick_and_the_next_one_is() {
        let target = KickTarget::new(Signal::default());
        let refuse = |_, _| Err(io::Error::from_raw_os_error(libc::EAGAIN));
        let error = target.0.kick_with(refuse).unwrap_err();
        assert!(error.to_string().contains("RLIMIT_SIGPENDING"), "{error}");
        assert!(!target.take());
        target.0.kick_with(|_, _| Ok(())).unwrap();
        assert!(target.take());
    }
}
