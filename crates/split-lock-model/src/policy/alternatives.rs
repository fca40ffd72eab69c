//! The alternatives that are compared.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::handler::{OnSignal, Rules, Wait};
use crate::kernel::{Profile, ProfileError};

/// A behaviour the kernel has, or could have, in mode `warn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Alternative {
    /// As the kernel is: a signal ends the punishment, and the next trap starts over.
    Upstream,
    /// As the kernel is with `kernel.split_lock_mitigate=0`: no sleep, no semaphore.
    Unmitigated,
    /// A signal cuts the sleep short, and the thread goes on to the semaphore all the same.
    Proceed,
    /// Nothing ends the sleep or the wait.
    Uninterruptible,
    /// Only a deadly signal ends the sleep or the wait.
    Killable,
    /// A signal ends the sleep; the next trap sleeps only the rest.
    #[serde(rename = "debt")]
    RemainingSleep,
    /// The first trap fixes when the punishment ends. Signals are taken at once, neither extend nor
    /// cancel it, and do not cost the thread its place in the semaphore's queue.
    #[serde(rename = "sentence")]
    FixedEnd,
}

impl Alternative {
    /// All of them, the kernel's own first.
    pub const ALL: [Self; 7] = [
        Self::Upstream,
        Self::Unmitigated,
        Self::Proceed,
        Self::Uninterruptible,
        Self::Killable,
        Self::RemainingSleep,
        Self::FixedEnd,
    ];

    /// The name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Unmitigated => "mitigate=0",
            Self::Proceed => "proceed",
            Self::Uninterruptible => "uninterruptible",
            Self::Killable => "killable",
            Self::RemainingSleep => "debt",
            Self::FixedEnd => "sentence",
        }
    }

    /// The handler's choices under this alternative.
    #[must_use]
    pub const fn rules(self) -> Rules {
        let upstream = Rules::UPSTREAM;
        match self {
            Self::Upstream | Self::Unmitigated => upstream,
            Self::Proceed => Rules {
                on_signal: OnSignal::Proceed,
                ..upstream
            },
            Self::Uninterruptible => Rules {
                wait: Wait::Uninterruptible,
                ..upstream
            },
            Self::Killable => Rules {
                wait: Wait::Killable,
                ..upstream
            },
            Self::RemainingSleep => Rules {
                on_signal: OnSignal::RemainingSleep,
                ..upstream
            },
            Self::FixedEnd => Rules {
                on_signal: OnSignal::FixedEnd,
                keep_place: true,
                ..upstream
            },
        }
    }

    /// The profile to run it on: `kernel` itself, with the sysctl off for
    /// [`Alternative::Unmitigated`].
    ///
    /// # Errors
    /// [`ProfileError::NoSysctl`] where that sysctl does not exist.
    pub fn profile(self, kernel: &Profile) -> Result<Profile, ProfileError> {
        match self {
            Self::Unmitigated => kernel.with_mitigate(false),
            _ => Ok(kernel.clone()),
        }
    }
}

impl fmt::Display for Alternative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
