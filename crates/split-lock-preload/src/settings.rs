//! What `splitlock run` wants, as it says in the environment.

use std::env;
use std::path::PathBuf;

/// What is to be done for vCPUs that are punished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    Emulate,
    /// Nothing: they are counted.
    Report,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) guard: Guard,
    /// Where to write what was seen and done; nowhere, if nobody asks.
    pub(crate) reports: Option<PathBuf>,
    /// Every vCPU that is in KVM_RUN at a look is taken for a punished one: to try everything out where nothing is
    /// punished.
    pub(crate) feigns_stalls: bool,
    /// As if the kernel did not say what threads wait for: to try out kernels that do not.
    pub(crate) hides_wait_channels: bool,
}

impl Settings {
    pub(crate) fn from_environment() -> Self {
        Self::new(|name| env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn new(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Self {
        let guard = match variable("SPLITLOCK_RUN_GUARD") {
            Some(name) if name == "report" => Guard::Report,
            _ => Guard::Emulate,
        };
        Self {
            guard,
            reports: variable("SPLITLOCK_RUN_REPORTS").map(PathBuf::from),
            feigns_stalls: variable("SPLITLOCK_RUN_FEIGN_STALLS").is_some(),
            hides_wait_channels: variable("SPLITLOCK_RUN_HIDE_WAIT_CHANNELS").is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_variables_instructions_are_emulated_and_nothing_is_written() {
        let settings = Settings::new(|_| None);
        assert_eq!((settings.guard, settings.reports), (Guard::Emulate, None));
        let settings =
            Settings::new(|name| (name == "SPLITLOCK_RUN_GUARD").then(|| "report".into()));
        assert_eq!(settings.guard, Guard::Report);
    }
}
