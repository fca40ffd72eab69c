//! Which signals bound a vCPU on this thread: two vCPUs that share one would take each other's.

use std::cell::Cell;
use std::marker::PhantomData;

use crate::sys;
use crate::{Error, Signal};

thread_local! {
    /// Bit n stands for signal n.
    static CLAIMED: Cell<u128> = const { Cell::new(0) };
}

/// The right to use a signal on the calling thread.
#[derive(Debug)]
pub(crate) struct Claim {
    signal: Signal,
    /// CLAIMED belongs to the thread, so this must be dropped where it was made.
    bound_to_thread: PhantomData<*const ()>,
}

impl Claim {
    pub(crate) fn new(signal: Signal) -> Result<Self, Error> {
        if CLAIMED.get() & bit(signal) != 0 {
            return Err(Error::SignalTaken { signal });
        }
        if sys::has_foreign_handler(signal) {
            return Err(Error::SignalHandled { signal });
        }
        if sys::is_pending(signal) {
            return Err(Error::SignalPending { signal });
        }
        CLAIMED.set(CLAIMED.get() | bit(signal));
        Ok(Claim {
            signal,
            bound_to_thread: PhantomData,
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        CLAIMED.set(CLAIMED.get() & !bit(self.signal));
    }
}

const fn bit(signal: Signal) -> u128 {
    1 << signal.number()
}
