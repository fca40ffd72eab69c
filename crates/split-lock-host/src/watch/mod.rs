//! Split locks as they happen: who traps, who gets past, who is in a livelock.
//!
//! * [`Ledger`]: an account for each thread. Happenings go in, accounts and changes come out; no I/O.
//! * [`Patience`]: from when on a thread that does not get past is in a livelock.
//! * [`Watch`]: the happenings of this machine, from the kernel's tracepoints and probes, by way of perf.
//!
//! What is seen of a trap, and by what:
//!
//! | step | with probes | by tracepoints alone |
//! |---|---|---|
//! | the trap | `handle_guest_split_lock`, `handle_user_split_lock` | on Intel `kvm:kvm_exit` with #AC; otherwise the sleep tells of it |
//! | the sleep begins | `timer:timer_start` | the same, by its call chain |
//! | the sleep ends, and how much was left | return of `msleep_interruptible` | not seen |
//! | back to the instruction | return of the handler | the next trap tells of it |
//! | a window opens and closes | `msr:write_msr` of MSR_TEST_CTRL | the same |
//!
//! So without probes, traps that a signal sends back before any sleep are not seen (but for those of
//! Intel's guests), nor is it whether a signal ended the sleep or the wait for the semaphore.

mod account;
mod happening;
mod ledger;
mod patience;
mod source;

pub use account::{Account, State, Totals};
pub use happening::{Happening, Way, What};
pub use ledger::{Change, Forgotten, Key, Ledger, MOST_WATCHED};
pub use patience::Patience;
#[cfg(test)]
pub(crate) use source::record;
pub use source::{Lost, Missing, Probing, Settings, Watch, WatchError};
