//! Split-lock traps as they happen on a Linux host: which threads trap, which get past, and which are in a livelock.
//!
//! [`Watch`] reads the running kernel's tracepoints and probes by way of perf, and gives one [`Happening`] for each step
//! of a thread through the kernel's split-lock handler. [`Ledger`] adds these up to an [`Account`] for each thread and to
//! the time during which CPUs were without detection; it does no I/O, so recorded events do as well as live ones.
//! [`Patience`] is the kernel's own limit, from the model: signals that come within it never let a punished thread get
//! past, and that is how a livelock is told from bad luck. Watching needs root or CAP_PERFMON, and changes nothing but
//! the probes that it defines and removes.
//!
//! ```
//! use split_lock_watch::{Happening, Ledger, Patience, State, Way, What};
//!
//! let mut ledger = Ledger::new(Patience::default());
//! let mut step = |at_ns, what| ledger.see(&Happening { at_ns, cpu: 0, tid: 7, pid: 7, what });
//! step(0, What::Trap { way: Way::User, rip: Some(0x40_1000) });
//! step(15_000_000, What::Detection { on: false, of: None });
//! let (thread, account) = ledger.threads().next().expect("a thread that has trapped");
//! assert_eq!((thread.tid, account.state()), (7, State::Slowed));
//! assert_eq!(account.totals().lost.as_millis(), 15);
//! ```
//!
//! What is seen of a trap, and by what:
//!
//! | step | with probes | by tracepoints alone |
//! |---|---|---|
//! | the trap | `handle_guest_split_lock`, `handle_user_split_lock` | the sleep tells of it |
//! | the sleep begins | not needed | `timer:timer_start`, by its call chain |
//! | the sleep ends, and how much was left | return of `msleep_interruptible` | not seen |
//! | back to the instruction | return of the handler | the next trap tells of it |
//! | a window opens and closes | `msr:write_msr` of MSR_TEST_CTRL | the same |
//!
//! So without probes, traps that a signal sends back before any sleep are not seen, nor is it whether a
//! signal ended the sleep or the wait for the semaphore.

mod account;
mod happening;
mod ledger;
mod patience;
mod source;
mod sys;

pub use account::{Account, State, Totals};
pub use happening::{Happening, Way, What};
pub use ledger::{Change, Forgotten, Key, Ledger, MOST_WATCHED};
pub use patience::Patience;
pub use source::{Lost, Missing, Probing, Settings, Watch, WatchError};

#[cfg(test)]
mod fixture {
    use std::fs;

    use split_lock_host::{Facts, Root};

    /// A folder with these files.
    pub(crate) fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            #[expect(clippy::disallowed_methods, reason = "a test's own file")]
            fs::write(path, text).unwrap();
        }
        root
    }

    pub(crate) fn facts(files: &[(&str, &str)]) -> Facts {
        Facts::read(&Root::open(folder(files).path()).unwrap())
    }
}
