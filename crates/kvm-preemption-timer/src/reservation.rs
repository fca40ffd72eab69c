//! Which signals bound a vCPU on this thread: two vCPUs that share one would take each other's.

use std::cell::Cell;
use std::marker::PhantomData;

use crate::sys;
use crate::{Error, Signal};

thread_local! {
    /// Bit n stands for signal n.
    static RESERVED: Cell<u128> = const { Cell::new(0) };
}

/// The right to use a signal on the calling thread.
#[derive(Debug)]
pub(crate) struct SignalReservation {
    signal: Signal,
    /// RESERVED belongs to the thread, so this must be dropped where it was made.
    bound_to_thread: PhantomData<*const ()>,
}

impl SignalReservation {
    pub(crate) fn new(signal: Signal) -> Result<Self, Error> {
        if RESERVED.get() & bit(signal) != 0 {
            return Err(Error::SignalTaken { signal });
        }
        if sys::has_foreign_handler(signal) {
            return Err(Error::SignalHandled { signal });
        }
        if sys::is_pending(signal) {
            return Err(Error::SignalPending { signal });
        }
        RESERVED.set(RESERVED.get() | bit(signal));
        Ok(SignalReservation {
            signal,
            bound_to_thread: PhantomData,
        })
    }
}

impl Drop for SignalReservation {
    fn drop(&mut self) {
        RESERVED.set(RESERVED.get() & !bit(self.signal));
    }
}

const fn bit(signal: Signal) -> u128 {
    1 << signal.number()
}
