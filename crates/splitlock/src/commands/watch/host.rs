//! What has to be known of the machine to understand what is seen on it.

use split_lock_host::{Detection, Facts};
use split_lock_watch::LivelockThreshold;

pub(super) struct Host {
    pub(super) kernel: Option<String>,
    pub(super) hz: Option<u32>,
    pub(super) detection: String,
    pub(super) threshold: LivelockThreshold,
    /// Whether a relief may leave a CPU without detection until its next window ends.
    pub(super) forgets_cpus: bool,
    /// What is to be kept in mind when looking at what was seen.
    pub(super) notes: Vec<String>,
}

impl Host {
    pub(super) fn of(facts: &Facts) -> Self {
        let detection = facts.detection();
        let sentence = detection.to_string();
        let is_off = matches!(
            detection,
            Detection::NotSupported { .. } | Detection::Off { .. }
        );
        let nothing = || {
            format!(
                "{sentence}: nothing will be seen here, unless that is wrong; `splitlock doctor` says more"
            )
        };
        Self {
            kernel: facts.kernel_release.known().cloned(),
            hz: facts.hz.known().map(|hz| hz.get()),
            threshold: LivelockThreshold::of(facts),
            forgets_cpus: facts.forgets_cpus(),
            notes: is_off.then(nothing).into_iter().collect(),
            detection: sentence,
        }
    }
}
