//! A machine as the model sees it: which kernels its may be, and what its processors notice.

use split_lock_model::kernel::{Era, Features, Profile, Release};
use split_lock_model::machine::{Hardware, Vendor};
use split_lock_model::time::Hz;

use crate::Facts;

impl Facts {
    /// The kernels that this one may be, as far as the model is concerned: one, or several where its release or its
    /// ticks could not be seen.
    #[must_use]
    pub fn possible_kernels(&self) -> Vec<Profile> {
        let rates = self.hz.known().map_or(Hz::ALL.to_vec(), |&hz| vec![hz]);
        let of_rate = |&hz: &Hz| match release(self) {
            Some((release, suffix)) => named(self, release.lookup(suffix).features, hz)
                .into_iter()
                .collect(),
            None => unnamed(self, hz),
        };
        rates.iter().flat_map(of_rate).collect()
    }

    /// Whether a CPU may stay without detection when `kernel.split_lock_mitigate` was 0 for a moment. Kernels before 6.15 have
    /// one work item for all CPUs that get past with mitigate=0 (c929d08df8be): the second of two windows at a time
    /// has nothing that ends it. What is not known of a kernel is taken for the worse.
    #[must_use]
    pub fn forgets_cpus(&self) -> bool {
        let has_one_cpu = self.online_cpus.known() == Some(&1);
        let is_mended = |kernel: &Profile| kernel.features().per_cpu_reenable;
        !has_one_cpu && !self.possible_kernels().iter().all(is_mended)
    }

    /// Whether this kernel, on AMD's CPUs that report bus locks, lets that get into KVM guests (cured by 433265870ab3).
    pub(crate) fn leaks_bus_locks_into_guests(&self) -> bool {
        let leaks = |(release, _): (Release, &str)| {
            (release.major, release.minor) == (6, 13) && release.stable <= 5
        };
        self.is_amd() && release(self).is_some_and(leaks)
    }

    /// What the processors notice, from their flags: a flag that could not be seen is none.
    #[must_use]
    pub fn hardware(&self) -> Hardware {
        let has = |flag| self.has_cpu_flag(flag) == Some(true);
        let vendor = match self.is_amd() {
            true => Vendor::Amd,
            false => Vendor::Intel,
        };
        Hardware {
            split_lock_ac: has("split_lock_detect"),
            bus_lock_db: has("bus_lock_detect").then_some(vendor),
        }
    }
}

/// A release that makes threads sleep. The sysctl says more than the release does: distributions take changes from
/// later kernels.
fn named(facts: &Facts, features: Features, hz: Hz) -> Option<Profile> {
    let release = facts.kernel_release.known()?;
    let mut profile = format!("{release},hz={hz}");
    if features.era != Era::Misery {
        profile += ",era=misery";
    }
    let has_sysctl = facts.split_lock_mitigate.known().is_some();
    if has_sysctl && !features.sysctl {
        profile += ",sysctl=1";
    }
    profile.parse().ok()
}

/// Where the release is not known, nor is it known which of two lengths the sleep has.
fn unnamed(facts: &Facts, hz: Hz) -> Vec<Profile> {
    let of_length = |extra_jiffy| {
        let features = Features {
            era: Era::Misery,
            extra_jiffy,
            sysctl: facts.split_lock_mitigate.known().is_some(),
            ..Features::NONE
        };
        Some(Profile::custom(features).ok()?.with_hz(hz))
    };
    [true, false].into_iter().filter_map(of_length).collect()
}

/// The kernel's release, and what follows its numbers.
pub(crate) fn release(facts: &Facts) -> Option<(Release, &str)> {
    Release::parse_prefix(facts.kernel_release.known()?).ok()
}
