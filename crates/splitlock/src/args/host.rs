//! What detects split locks: the value of `--host`.

use std::str::FromStr;

use split_lock_model::kernel::{ParseProfileError, Profile};

/// What detects split locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// This host as it is; for the model, this host's kernel in mode `warn`.
    Native,
    /// A kernel profile.
    Kernel(Box<Profile>),
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
