//! From a kernel release, as `uname -r` prints it, to features.

use std::fmt;

use super::features::{Era, Features};

/// The numbers at the start of a kernel release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// 6 in 6.1.192.
    pub major: u16,
    /// 1 in 6.1.192.
    pub minor: u16,
    /// 192 in 6.1.192; 0 if not given.
    pub stable: u16,
}

/// A text that does not begin like a kernel release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("release: {0:?} does not begin with a kernel version such as 6.1 or 6.12.117")]
pub struct ReleaseError(pub String);

/// Features of a release, and what to know about how they were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The behaviour.
    pub features: Features,
    /// Why the answer may be wrong, if it may.
    pub note: Option<&'static str>,
}

/// The newest release whose source was read.
const NEWEST: Release = Release::new(7, 1, u16::MAX);

impl Release {
    /// From its three numbers.
    #[must_use]
    pub const fn new(major: u16, minor: u16, stable: u16) -> Self {
        Self {
            major,
            minor,
            stable,
        }
    }

    /// Reads the numbers at the start, and gives back what follows them (`-1-amd64`).
    ///
    /// # Errors
    /// [`ReleaseError`] if there are not at least two numbers joined by a point, none above 65535.
    pub fn parse_prefix(text: &str) -> Result<(Self, &str), ReleaseError> {
        let fail = || ReleaseError(text.to_owned());
        let (major, rest) = number(text).ok_or_else(fail)?;
        let (minor, rest) = rest.strip_prefix('.').and_then(number).ok_or_else(fail)?;
        let (stable, rest) = match rest.strip_prefix('.').map(number) {
            Some(Some(found)) => found,
            Some(None) => return Err(fail()),
            None => (0, rest),
        };
        // A letter or digit that touches the number would make it another number.
        if rest.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(fail());
        }
        Ok((Self::new(major, minor, stable), rest))
    }

    /// The behaviour of this release, given what follows its numbers.
    #[must_use]
    pub fn lookup(self, suffix: &str) -> Lookup {
        // Debian and Ubuntu write 6.1.0-37-amd64 for what is a much later stable kernel.
        let hidden = self.stable == 0 && suffix.starts_with('-') && !suffix.starts_with("-rc");
        let effective = if hidden {
            Self {
                stable: u16::MAX,
                ..self
            }
        } else {
            self
        };
        Lookup {
            features: effective.features(),
            note: self.note(suffix, hidden),
        }
    }

    fn features(self) -> Features {
        let since = |major, minor| self >= Self::new(major, minor, 0);
        Features {
            era: match () {
                () if since(5, 19) => Era::Misery,
                () if since(5, 7) => Era::Thread,
                () => Era::None,
            },
            extra_jiffy: !since(6, 12),
            sysctl: since(6, 2) || self.in_stable(6, 0, 16) || self.in_stable(6, 1, 2),
            per_cpu_reenable: since(6, 15)
                || self.in_stable(6, 1, 135)
                || self.in_stable(6, 6, 88)
                || self.in_stable(6, 13, 12),
            ratelimit: since(5, 14),
            intel_bus_lock: since(5, 13),
            amd_bus_lock: since(6, 13),
        }
    }

    fn in_stable(self, major: u16, minor: u16, from: u16) -> bool {
        (self.major, self.minor) == (major, minor) && self.stable >= from
    }

    fn note(self, suffix: &str, hidden: bool) -> Option<&'static str> {
        if self > NEWEST {
            Some("newer than any release known here: taken to behave like 7.1")
        } else if suffix.contains(".el") {
            Some(
                "enterprise kernels take changes from later releases: look for kernel.split_lock_mitigate on the host itself",
            )
        } else if (self.major, self.minor) == (6, 14) {
            Some("not known which 6.14 kernels have the per-CPU re-enable: taken to lack it")
        } else if hidden {
            Some("the release hides its stable level: taken as that series' last stable kernel")
        } else {
            None
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.stable)
    }
}

fn number(text: &str) -> Option<(u16, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(text: &str) -> Lookup {
        let (release, suffix) = Release::parse_prefix(text).expect("a release");
        release.lookup(suffix)
    }

    #[test]
    fn eras_begin_where_the_kernel_changed() {
        for (text, era) in [
            ("4.18.0-553.el8.x86_64", Era::None),
            ("5.6.19", Era::None),
            ("5.7", Era::Thread),
            ("5.18.19", Era::Thread),
            ("5.19", Era::Misery),
            ("7.1.0-rc3", Era::Misery),
        ] {
            assert_eq!(lookup(text).features.era, era, "{text}");
        }
    }

    #[test]
    fn backports_are_by_series_not_by_order() {
        let features = |text| lookup(text).features;
        for text in ["6.1.135", "6.1.192-1-amd64", "6.6.88", "6.13.12", "6.15"] {
            assert!(features(text).per_cpu_reenable, "{text}");
        }
        for text in [
            "6.1.134",
            "6.6.87.2-microsoft-standard-WSL2",
            "6.12.117",
            "6.14.2",
        ] {
            assert!(!features(text).per_cpu_reenable, "{text}");
        }
        for (text, sysctl) in [
            ("6.0.15", false),
            ("6.0.16", true),
            ("6.1.1", false),
            ("6.1.2", true),
            ("6.2", true),
        ] {
            assert_eq!(features(text).sysctl, sysctl, "{text}");
        }
        assert!(features("6.11.9").extra_jiffy && !features("6.12").extra_jiffy);
    }

    #[test]
    fn doubtful_releases_say_so() {
        for text in [
            "7.2",
            "9.0.1-fc99",
            "6.1.0-37-amd64",
            "5.14.0-427.el9",
            "6.14.3",
        ] {
            assert!(lookup(text).note.is_some(), "{text}");
        }
        for text in ["6.1.192-1-amd64", "6.18.44-fc", "7.1", "7.1.0-rc3"] {
            assert_eq!(lookup(text).note, None, "{text}");
        }
        assert!(lookup("6.1.0-37-amd64").features.per_cpu_reenable);
    }

    #[test]
    fn what_is_no_release_is_refused() {
        for text in [
            "", "6", "6.", ".1", "six.one", "6.1x", "6.1.", "70000.1", "6.1.2a", "-6.1",
        ] {
            assert!(Release::parse_prefix(text).is_err(), "{text:?}");
        }
    }
}
