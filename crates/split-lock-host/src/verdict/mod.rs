//! Whether a machine is affected by what Linux does about split locks, how sure that is, and what to do.

use serde::Serialize;

use crate::fix::{BootLoader, Fix, fixes};
use crate::{Answer, Basis, Condition, Facts, History, Root};

mod cost;
mod decide;

pub use cost::{Cost, DurationRange};

/// What is the matter with a machine.
///
/// ```
/// use split_lock_host::{Facts, History, Root, Verdict};
///
/// let machine = Root::live()?;
/// let facts = Facts::read(&machine);
/// let history = History::of_machine(&machine, |_| ());
/// let verdict = Verdict::of(&machine, &facts, &history);
/// println!("{}: {}", verdict.condition.title(), verdict.because.join("; "));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What may become of whoever splits a lock.
    pub condition: Condition,
    /// What that rests on.
    pub basis: Basis,
    /// What was seen that leads there, each in a sentence without its full stop.
    pub because: Vec<String>,
    /// What speaks against it, or could not be seen, each in a sentence without its full stop.
    pub doubts: Vec<String>,
    /// Whether what has happened so far could be seen.
    pub is_history_known: bool,
    /// What one trap costs.
    pub cost: Option<Cost>,
    /// What can be done, the least first.
    pub fixes: Vec<Fix>,
}

impl Verdict {
    /// Judges a machine by what it says about itself, and what its kernel's log tells.
    #[must_use]
    pub fn of(root: &Root, facts: &Facts, history: &History) -> Self {
        let (condition, judge) = decide::decide(facts, history);
        Verdict {
            condition,
            basis: judge.basis,
            because: judge.because,
            doubts: judge.doubts,
            is_history_known: history.known().is_some(),
            cost: Cost::of(condition, facts),
            fixes: fixes(condition, facts, BootLoader::of(root, facts).as_ref()),
        }
    }

    /// A heading: the condition, and whether it is all that could be seen.
    #[must_use]
    pub fn title(&self) -> String {
        let title = self.condition.title();
        if self.condition.leaves_a_history() && !self.is_history_known {
            format!("{title}; settings known, history unknown")
        } else {
            title.to_owned()
        }
    }

    /// What the whole comes down to, for a program that asks.
    #[must_use]
    pub fn answer(&self) -> Answer {
        match self.condition {
            condition if condition.is_harmful() => Answer::Found,
            Condition::Unknown | Condition::HostDecides => Answer::CannotSay,
            condition if condition.leaves_a_history() && !self.is_history_known => {
                Answer::CannotSay
            }
            _ => Answer::Fine,
        }
    }
}
