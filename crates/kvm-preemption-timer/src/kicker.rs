//! Forcing a vCPU out from another thread.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sys::{self, Process, Tid};
use crate::{KickError, KickReasons, Signal};

/// Forces one vCPU out of the guest, from any thread and at any moment.
///
/// A kick is never lost: if it comes while no run is active, also just before KVM_RUN, the next
/// run ends at once. Kicks that come before the vCPU's thread has taken notice count as one, with the
/// reasons of all.
///
/// It is not meant for signal handlers: it takes a lock.
#[derive(Debug, Clone)]
pub struct Kicker(Arc<KickState>);

/// Set in [`KickState::kicked`] by each kick, beside its reasons.
const KICKED: u32 = 1 << KickReasons::COUNT;

/// What the vCPU's thread and its kickers share.
#[derive(Debug)]
struct KickState {
    process: Process,
    /// Set before the signal is sent, taken after it was consumed: so whoever finds it set has seen
    /// the signal, or will.
    kicked: AtomicU32,
    /// The thread to signal, for as long as it is sure to be that thread. The lock is held while
    /// the signal is sent, so that it cannot reach a later thread with the same id.
    target: Mutex<Option<(Tid, Signal)>>,
}

impl Kicker {
    /// Makes the current run, or else the next one, end with
    /// [`Interruption::Kicked`](crate::Interruption::Kicked). What this thread wrote before the kick
    /// can be read by the vCPU's thread after that.
    ///
    /// # Errors
    /// [`KickError::Gone`] once the vCPU is not bound any more or its thread has ended,
    /// [`KickError::Forked`] in a process that was forked off, and [`KickError::NotSent`] if a
    /// real-time signal meets the limit of queued signals.
    pub fn kick(&self) -> Result<(), KickError> {
        self.kick_for(KickReasons::NONE)
    }

    /// The same, and tells the vCPU's thread why.
    ///
    /// # Errors
    /// As [`Kicker::kick`].
    pub fn kick_for(&self, reasons: KickReasons) -> Result<(), KickError> {
        self.kick_with(reasons, |thread, signal| {
            sys::send_signal(self.0.process, thread, signal)
        })
    }

    fn kick_with(
        &self,
        reasons: KickReasons,
        send: impl FnOnce(Tid, Signal) -> io::Result<()>,
    ) -> Result<(), KickError> {
        // Before the lock, which a thread of the parent may have held for ever in this process.
        if !self.0.process.is_current() {
            return Err(KickError::Forked);
        }
        let target = self.lock_target();
        let (thread, signal) = target.ok_or(KickError::Gone)?;
        let kicked = &self.0.kicked;
        if kicked.fetch_or(KICKED | reasons.bits(), Ordering::AcqRel) != 0 {
            return Ok(());
        }
        send(thread, signal).map_err(|source| {
            // Under the lock nobody else has relied on this signal.
            kicked.store(0, Ordering::Release);
            match source.raw_os_error() {
                Some(libc::ESRCH) => KickError::Gone,
                _ => KickError::NotSent { signal, source },
            }
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
            process: Process::current(),
            kicked: AtomicU32::new(0),
            target: Mutex::new(Some((sys::current_tid(), signal))),
        })))
    }

    pub(crate) fn kicker(&self) -> Kicker {
        self.0.clone()
    }

    /// Whether there is a kick to take.
    pub(crate) fn is_kicked(&self) -> bool {
        self.0.0.kicked.load(Ordering::Relaxed) != 0
    }

    /// The reasons of the kicks since the last call, if there were any.
    pub(crate) fn take(&self) -> Option<KickReasons> {
        if !self.is_kicked() {
            return None;
        }
        let kicked = self.0.0.kicked.swap(0, Ordering::AcqRel);
        KickReasons::from_bits(kicked & !KICKED)
    }
}

impl Drop for KickTarget {
    fn drop(&mut self) {
        // As in `kick_with`: in a process that was forked off nobody is kicked anyway.
        if self.0.0.process.is_current() {
            *self.0.lock_target() = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHY: [KickReasons; 2] = [KickReasons::number(0), KickReasons::number(30)];

    /// Otherwise whoever takes the signal would find no kick, and nothing would come after it.
    #[test]
    fn the_flag_is_set_before_the_signal_is_sent() {
        let target = KickTarget::new(Signal::default());
        let send = |_, _| {
            assert!(target.is_kicked());
            Ok(())
        };
        target.0.kick_with(KickReasons::NONE, send).unwrap();
    }

    #[test]
    fn kicks_that_nobody_has_taken_yet_send_one_signal_and_keep_all_reasons() {
        let target = KickTarget::new(Signal::default());
        let sent = std::cell::Cell::new(0);
        let send = |_, _| {
            sent.set(sent.get() + 1);
            Ok(())
        };
        for reasons in WHY {
            target.0.kick_with(reasons, send).unwrap();
        }
        assert_eq!(sent.get(), 1);
        assert_eq!(target.take(), Some(WHY[0] | WHY[1]));
        assert_eq!(target.take(), None);
        target.0.kick_with(KickReasons::NONE, send).unwrap();
        assert_eq!(sent.get(), 2);
        assert_eq!(target.take(), Some(KickReasons::NONE));
    }

    #[test]
    fn a_kick_that_could_not_be_sent_is_no_kick_and_the_next_one_is() {
        let target = KickTarget::new(Signal::default());
        let refuse = |_, _| Err(io::Error::from_raw_os_error(libc::EAGAIN));
        let error = target.0.kick_with(WHY[0], refuse).unwrap_err();
        assert!(error.to_string().contains("RLIMIT_SIGPENDING"), "{error}");
        assert_eq!(target.take(), None);
        target.0.kick_with(WHY[1], |_, _| Ok(())).unwrap();
        assert_eq!(target.take(), Some(WHY[1]));
    }

    #[test]
    fn a_thread_that_has_ended_is_gone() {
        let target = KickTarget::new(Signal::default());
        let no_thread = |_, _| Err(io::Error::from_raw_os_error(libc::ESRCH));
        let error = target.0.kick_with(WHY[0], no_thread).unwrap_err();
        assert!(matches!(error, KickError::Gone), "{error}");
    }
}
