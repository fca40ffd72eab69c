//! Ending a sweep early, from another thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kvm_preemption_timer::Kicker;

/// Ends a sweep at once, also in the middle of a long run. Clones share one request.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<State>);

#[derive(Debug, Default)]
struct State {
    requested: AtomicBool,
    kickers: Mutex<Vec<Kicker>>,
}

impl Stop {
    /// Nobody has asked yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the sweep to end. The run in progress does not count.
    pub fn request(&self) {
        self.0.requested.store(true, Ordering::SeqCst);
        for kicker in &*self.kickers() {
            // One that is gone has nothing left to end.
            let _ = kicker.kick();
        }
    }

    /// Whether somebody has asked.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }

    /// A vCPU that is to be forced out. It must be added before the first look at
    /// [`Stop::is_requested`] that it depends on.
    pub(super) fn add(&self, kicker: Kicker) {
        self.kickers().push(kicker);
    }

    fn kickers(&self) -> MutexGuard<'_, Vec<Kicker>> {
        let kickers = self.0.kickers.lock();
        kickers.unwrap_or_else(PoisonError::into_inner)
    }
}
