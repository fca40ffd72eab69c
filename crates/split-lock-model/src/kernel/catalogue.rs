//! Distributions by name: the kernel series each was released with, and its tick rate.

use crate::time::Hz;

use super::release::Release;

/// A distribution's stock kernel at the time of its release, with that series' stable updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Distribution {
    /// As users write it: `debian-12`.
    pub(super) name: &'static str,
    /// The kernel series.
    pub(super) release: Release,
    /// CONFIG_HZ of the stock kernel.
    pub(super) hz: Hz,
    /// What to know before trusting it.
    pub(super) note: Option<&'static str>,
}

const BACKPORTS: Option<&str> = Some(
    "a distribution that takes changes from later releases: look for kernel.split_lock_mitigate on the host itself",
);

const fn stock(name: &'static str, (major, minor): (u16, u16), hz: Hz) -> Distribution {
    // Up to date in its series.
    Distribution {
        name,
        release: Release::new(major, minor, u16::MAX),
        hz,
        note: None,
    }
}

const fn patched(name: &'static str, series: (u16, u16), hz: Hz) -> Distribution {
    Distribution {
        note: BACKPORTS,
        ..stock(name, series, hz)
    }
}

impl Distribution {
    /// Every distribution known by name.
    pub(super) const ALL: &'static [Self] = &[
        stock("debian-11", (5, 10), Hz::HZ_250),
        stock("debian-12", (6, 1), Hz::HZ_250),
        stock("debian-13", (6, 12), Hz::HZ_250),
        patched("ubuntu-20.04", (5, 4), Hz::HZ_250),
        patched("ubuntu-22.04", (5, 15), Hz::HZ_250),
        patched("ubuntu-24.04", (6, 8), Hz::HZ_250),
        patched("rhel-8", (4, 18), Hz::HZ_1000),
        patched("rhel-9", (5, 14), Hz::HZ_1000),
        patched("rhel-10", (6, 12), Hz::HZ_1000),
        stock("fedora-40", (6, 8), Hz::HZ_1000),
        stock("fedora-42", (6, 14), Hz::HZ_1000),
    ];

    /// The distribution of this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        Self::ALL
            .iter()
            .find(|distribution| distribution.name == name)
    }
}
