//! What detects split locks: the value of `--host`.

use std::str::FromStr;

use split_lock_model::kernel::{ParseProfileError, Profile};
use split_lock_repro::sweep;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// This host as it is; for the model, this host's kernel in mode `warn`.
    Native,
    /// A kernel profile.
    Kernel(Box<Profile>),
}

impl Host {
    /// The kernel that was asked for; `None` for this host's.
    pub(crate) fn kernel(&self) -> Option<&Profile> {
        match self {
            Host::Native => None,
            Host::Kernel(kernel) => Some(kernel),
        }
    }

    /// Where guests and programs run.
    pub(crate) fn measured(&self) -> sweep::Host {
        match self {
            Host::Native => sweep::Host::Native,
            Host::Kernel(kernel) => sweep::Host::Emulated((**kernel).clone()),
        }
    }
}

impl FromStr for Host {
    type Err = ParseProfileError;

    fn from_str(text: &str) -> Result<Self, ParseProfileError> {
        match text {
            "native" => Ok(Host::Native),
            profile => Ok(Host::Kernel(Box::new(profile.parse()?))),
        }
    }
}
