//! Split-lock traps as they happen on a Linux host: which threads trap, which get past, and which are in a livelock.
//!
//! [`Watch`] reads the running kernel's tracepoints and probes by way of perf, and gives one [`Event`] for each step of
//! a thread through the kernel's split-lock handler. [`ThreadTable`] adds these up to [`ThreadStats`] for each thread and
//! to the time during which CPUs were without detection; it does no I/O, so recorded events do as well as live ones.
//! [`LivelockThreshold`] is the kernel's own limit, from the model: signals that come within it never let a punished
//! thread get past, which tells a livelock from bad luck. [`Session`] puts these together with the names of threads and
//! virtual machines, and gives a [`Snapshot`] whenever asked; it needs root or CAP_PERFMON.
//!
//! ```
//! use split_lock_watch::{Event, EventKind, LivelockThreshold, ThreadState, ThreadTable, TrapOrigin};
//!
//! let mut table = ThreadTable::new(LivelockThreshold::default());
//! let mut step = |at_ns, kind| table.record(&Event { at_ns, cpu: 0, tid: 7, pid: 7, kind });
//! step(0, EventKind::Trap { origin: TrapOrigin::User, rip: Some(0x40_1000) });
//! step(15_000_000, EventKind::Detection { on: false, of: None });
//! let (thread, stats) = table.threads().next().expect("a thread that has trapped");
//! assert_eq!((thread.tid, stats.state()), (7, ThreadState::Slowed));
//! assert_eq!(stats.totals().lost.as_millis(), 15);
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
//! | the thread leaves its CPU | switch records of threads that had a window ([`Watch::follow_thread`]) | the same |
//!
//! So without probes, traps that a signal sends back before any sleep are not seen, nor is it whether a
//! signal ended the sleep or the wait for the semaphore.

mod event;
mod identity;
mod livelock;
mod relief;
mod serialize;
mod session;
mod snapshot;
mod source;
mod sys;
mod thread_stats;
mod thread_table;
mod window;

pub use event::{Event, EventKind};
pub use identity::ThreadIdentity;
pub use livelock::{LivelockThreshold, ThreadState};
pub use relief::{
    Mitigation, MitigationError, Relief, ReliefBudget, ReliefError, ReliefTotals, Reliever,
    SHORTEST_CHARGED,
};
pub use session::{Session, SnapshotKind, StateReport};
pub use snapshot::{Cost, ProcessRow, Snapshot, ThreadRow};
pub use source::{LostEvents, MissingSource, Probing, Settings, Watch, WatchError};
pub use split_lock_model::handler::TrapOrigin;
pub use thread_stats::{ThreadStats, Totals};
pub use thread_table::{MAX_THREADS, RemovedThreads, StateChange, ThreadId, ThreadTable};

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
