//! What a guard is to do.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How a guard reacts to a vCPU that is held up by split locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Reaction {
    /// Not at all, and nothing is looked at.
    Off,
    /// It says so.
    #[default]
    Report,
    /// It lets one run be long enough for the kernel to be done with its punishment.
    Grace,
    /// It does the instruction in the CPU's place, and watches it. What cannot be emulated gets
    /// [`Grace`](Self::Grace), as far as [`Config::grace`] allows it.
    Emulate,
    /// The best that there is: the same as [`Emulate`](Self::Emulate).
    Auto,
}

/// What a guard is to do, and what it may.
///
/// ```
/// use split_lock_assist::guard::{Config, Reaction};
///
/// let config = Config::new(Reaction::Emulate);
/// assert_eq!(config.grace, None);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// How it reacts.
    pub reaction: Reaction,
    /// How long one run may last in which the kernel is to be done with its punishment: its sleep,
    /// the wait for the semaphore, and as much of the time without detection as is useful. `None`
    /// if the VMM's own budgets must not be exceeded, come what may; then [`Reaction::Grace`] is
    /// nothing but [`Reaction::Report`].
    pub grace: Option<Duration>,
    /// The shortest budget of a run that only finds out whether the vCPU is stalled again. Where
    /// breakpoints do not reach, each split lock costs at least that much.
    pub shortest_probe: Duration,
    /// A run is looked at more closely in which the thread was without a CPU for more than this share
    /// of the time, from 0 to 1, or for several milliseconds. That takes a few calls of KVM.
    pub suspicious_share: f64,
}

impl Config {
    /// It reacts like this, and leaves all deadlines alone.
    #[must_use]
    pub fn new(reaction: Reaction) -> Self {
        Self {
            reaction,
            ..Self::default()
        }
    }

    /// With this [`grace`](Self::grace).
    #[must_use]
    pub fn with_grace(self, grace: Option<Duration>) -> Self {
        Self { grace, ..self }
    }

    /// With this [`shortest_probe`](Self::shortest_probe).
    #[must_use]
    pub fn with_shortest_probe(self, shortest_probe: Duration) -> Self {
        Self {
            shortest_probe,
            ..self
        }
    }
}

impl Default for Config {
    /// Reports, and leaves all deadlines alone.
    fn default() -> Self {
        Self {
            reaction: Reaction::default(),
            grace: None,
            shortest_probe: Duration::from_micros(100),
            suspicious_share: 0.25,
        }
    }
}

impl Reaction {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Off,
        Self::Report,
        Self::Grace,
        Self::Emulate,
        Self::Auto,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Report => "report",
            Self::Grace => "grace",
            Self::Emulate => "emulate",
            Self::Auto => "auto",
        }
    }
}

impl fmt::Display for Reaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Not a way to react.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a way to react to split locks: use off, report, grace, emulate or auto")]
pub struct UnknownReaction(String);

impl FromStr for Reaction {
    type Err = UnknownReaction;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|reaction| reaction.name() == text)
            .ok_or_else(|| UnknownReaction(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reaction_is_printed_as_it_is_read() {
        for reaction in Reaction::ALL {
            assert_eq!(reaction.to_string().parse(), Ok(reaction));
        }
        let error = "pray".parse::<Reaction>().unwrap_err().to_string();
        assert!(error.contains("use off, report"), "{error}");
    }
}
