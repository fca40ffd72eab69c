//! Getting threads out of a livelock: `kernel.split_lock_mitigate` is 0 until each of them has had a window, and no longer
//! than a budget allows.

mod budget;
mod mitigation;

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::serialize::nanos;
use crate::session::Session;
use crate::source::{Watch, WatchError};
use crate::sys::RealTimePriority;
use crate::thread_table::ThreadId;

pub use budget::{ReliefBudget, SHORTEST_CHARGED};
pub use mitigation::{Mitigation, MitigationError};

/// How often the rings are looked into while the mitigation is switched off.
const LOOK_EVERY: Duration = Duration::from_micros(500);

/// Relief while a watch goes on.
///
/// ```no_run
/// use std::time::Duration;
/// use split_lock_host::{Facts, Root};
/// use split_lock_watch::{LivelockThreshold, Mitigation, ReliefBudget, Reliever, Session, Settings, Watch};
///
/// let threshold = LivelockThreshold::of(&Facts::live()?);
/// let mut session = Session::new(Watch::open(&Settings::default())?, threshold, Root::live()?);
/// let budget = ReliefBudget::new(Duration::from_millis(20));
/// let mut reliever = Reliever::new(Mitigation::open()?, budget);
/// loop {
///     session.listen(Duration::from_millis(20))?;
///     if let Some(relief) = reliever.step(&mut session)? {
///         println!("{} threads have got past", relief.past.len());
///     }
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Reliever {
    mitigation: Mitigation,
    budget: ReliefBudget,
    /// What happened until the last relief was over has not been taken in before this.
    last_ended_ns: u64,
    is_refused: bool,
    totals: ReliefTotals,
}

/// All reliefs together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ReliefTotals {
    /// How many there were.
    pub reliefs: u64,
    /// How long the mitigation was switched off.
    #[serde(rename = "relieved_ns", serialize_with = "nanos")]
    pub relieved: Duration,
    /// Windows that threads in a livelock got so.
    pub threads_past: u64,
    /// How often a thread in a livelock had to wait, because the budget was used up.
    pub refused: u64,
    /// How often somebody else had switched the mitigation off already, or on again meanwhile.
    pub meddled: u64,
}

/// One relief.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relief {
    /// When the mitigation was switched off, on CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// For how long.
    pub lasting: Duration,
    /// Threads that have had a window meanwhile.
    pub past: Vec<ThreadId>,
    /// Threads that have not: they did not trap in that time.
    pub not_past: Vec<ThreadId>,
}

/// Why a relief failed.
#[derive(Debug, thiserror::Error)]
pub enum ReliefError {
    /// The mitigation could not be switched.
    #[error(transparent)]
    Mitigation(#[from] MitigationError),
    /// The kernel's events could not be read.
    #[error(transparent)]
    Watch(#[from] WatchError),
}

impl Reliever {
    /// Nobody has been relieved so far.
    #[must_use]
    pub fn new(mitigation: Mitigation, budget: ReliefBudget) -> Self {
        Self {
            mitigation,
            budget,
            last_ended_ns: 0,
            is_refused: false,
            totals: ReliefTotals::default(),
        }
    }

    /// All reliefs so far.
    #[must_use]
    pub fn totals(&self) -> &ReliefTotals {
        &self.totals
    }

    /// Relieves the threads that are in a livelock now, if there are any and the budget allows it. This takes as long as
    /// the relief.
    ///
    /// # Errors
    /// If the mitigation cannot be switched, or events cannot be read. It is on again then, or the error says that it
    /// is not.
    pub fn step(&mut self, session: &mut Session) -> Result<Option<Relief>, ReliefError> {
        if session.taken_until_ns() < self.last_ended_ns {
            return Ok(None);
        }
        let victims = session.livelocked();
        if victims.is_empty() {
            self.is_refused = false;
            return Ok(None);
        }
        let available = self.budget.available(Watch::now_ns());
        if available < SHORTEST_CHARGED {
            self.totals.refused += u64::from(!self.is_refused);
            self.is_refused = true;
            return Ok(None);
        }
        self.is_refused = false;
        let relief = self.relieve(session, &victims, available)?;
        if let Some(relief) = &relief {
            self.last_ended_ns = relief.at_ns + relief.lasting.as_nanos() as u64;
            self.budget.spend(relief.at_ns, self.last_ended_ns);
            self.totals.reliefs += 1;
            self.totals.relieved += relief.lasting;
            self.totals.threads_past += relief.past.len() as u64;
        }
        Ok(relief)
    }

    fn relieve(
        &mut self,
        session: &mut Session,
        victims: &BTreeSet<ThreadId>,
        at_most: Duration,
    ) -> Result<Option<Relief>, ReliefError> {
        // Threads get past from the moment on at which the switch is written.
        let at_ns = Watch::now_ns();
        let Some(suspended) = self.mitigation.suspend()? else {
            self.totals.meddled += 1;
            return Ok(None);
        };
        // Threads in their windows do not sleep any more, and would keep the CPU from whoever has to end this.
        let _first = RealTimePriority::begin();
        let until_ns = at_ns + at_most.as_nanos() as u64;
        let mut waiting = victims.clone();
        while !waiting.is_empty() && Watch::now_ns() < until_ns {
            thread::sleep(LOOK_EVERY);
            for thread in session.windows_since(at_ns) {
                waiting.remove(&thread);
            }
        }
        let is_ours = suspended.end()?;
        self.totals.meddled += u64::from(!is_ours);
        Ok(Some(Relief {
            at_ns,
            lasting: Duration::from_nanos(Watch::now_ns() - at_ns),
            past: victims.difference(&waiting).copied().collect(),
            not_past: waiting.into_iter().collect(),
        }))
    }
}
