//! One kernel, as configured and booted.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::features::{Era, Features};
use super::parse::{self, ParseProfileError};
use crate::machine::{Hardware, Vendor};
use crate::time::{Hz, Jiffies};

/// `split_lock_detect=`, the boot option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// No detection.
    Off,
    /// Warn and slow down; the default where the CPU can detect.
    Warn,
    /// SIGBUS.
    Fatal,
    /// No split-lock detection; at most this many bus locks of user threads a second.
    Ratelimit(u16),
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Warn => f.write_str("warn"),
            Self::Fatal => f.write_str("fatal"),
            Self::Ratelimit(n) => write!(f, "ratelimit:{n}"),
        }
    }
}

/// What a kernel does about split locks: its features, tick rate, boot mode and sysctl.
///
/// ```
/// use split_lock_model::kernel::Profile;
///
/// let profile: Profile = "6.6,hz=1000,mitigate=0".parse()?;
/// assert_eq!(profile.to_string(), "6.6,hz=1000,mitigate=0");
/// assert!("5.15,mitigate=0".parse::<Profile>().is_err(), "5.15 has no such sysctl");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Profile {
    pub(super) base: String,
    pub(super) features: Features,
    pub(super) hz: Hz,
    pub(super) mode: Mode,
    pub(super) mitigate: bool,
}

/// Settings that no kernel can have together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// A mode other than off on a kernel without detection.
    #[error("mode: a kernel before 5.7 detects no split locks, so only mode=off is possible")]
    ModeWithoutDetection,
    /// Rate limit on a kernel that has none.
    #[error("mode: this kernel has no ratelimit (it came with 5.14)")]
    NoRatelimit,
    /// Rate limit outside what the kernel accepts.
    #[error("mode: ratelimit {0} is not between 1 and 1000 bus locks a second")]
    RatelimitRange(u32),
    /// mitigate=0 without the sysctl.
    #[error(
        "mitigate: this kernel has no kernel.split_lock_mitigate to switch off (it came with 6.2 and some stable kernels)"
    )]
    NoSysctl,
    /// The sysctl on a kernel whose `warn` has nothing to mitigate.
    #[error("sysctl: kernel.split_lock_mitigate belongs to era=misery")]
    SysctlWithoutMisery,
    /// The per-CPU work is a repair of what the sysctl brought.
    #[error("per_cpu_reenable: it repairs mitigate=0, so it needs sysctl=1")]
    PerCpuWithoutSysctl,
}

impl Profile {
    /// A profile to be put together by hand, starting from given features.
    #[must_use]
    pub fn builder(features: Features) -> ProfileBuilder {
        ProfileBuilder::new(parse::BY_HAND.to_owned(), features)
    }

    /// What the profile was made from: a release, a distribution, or `custom`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The kernel's behaviour.
    #[must_use]
    pub const fn features(&self) -> &Features {
        &self.features
    }

    /// Ticks per second.
    #[must_use]
    pub const fn hz(&self) -> Hz {
        self.hz
    }

    /// The boot mode.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// `kernel.split_lock_mitigate`; true where the kernel has no such sysctl.
    #[must_use]
    pub const fn mitigate(&self) -> bool {
        self.mitigate
    }

    /// Why this profile may not be what the named kernel does, if there is a reason.
    #[must_use]
    pub fn note(&self) -> Option<&'static str> {
        parse::base(&self.base).ok().and_then(|found| found.note)
    }

    /// T: the ticks that the punishing sleep of 10 ms asks for.
    #[must_use]
    pub const fn sleep_ticks(&self) -> Jiffies {
        self.features.msleep_ticks(10, self.hz)
    }

    /// Whether split-lock detection (#AC) is armed on this hardware.
    #[must_use]
    pub fn arms_split_lock(&self, hardware: Hardware) -> bool {
        hardware.split_lock_ac && matches!(self.mode, Mode::Warn | Mode::Fatal)
    }

    /// Whether bus-lock detection (#DB) is armed on this hardware.
    #[must_use]
    pub fn arms_bus_lock(&self, hardware: Hardware) -> bool {
        let supported = match hardware.bus_lock_db {
            Some(Vendor::Intel) => self.features.intel_bus_lock,
            Some(Vendor::Amd) => self.features.amd_bus_lock,
            None => false,
        };
        // Where a CPU has both, warn and fatal are left to #AC.
        supported
            && match self.mode {
                Mode::Off => false,
                Mode::Warn | Mode::Fatal => !hardware.split_lock_ac,
                Mode::Ratelimit(_) => true,
            }
    }

    /// The same kernel in another boot mode.
    ///
    /// # Errors
    /// [`ProfileError`] if this kernel cannot be booted so.
    pub fn with_mode(&self, mode: Mode) -> Result<Self, ProfileError> {
        Self {
            mode,
            ..self.clone()
        }
        .checked()
    }

    /// The same kernel with `kernel.split_lock_mitigate` set.
    ///
    /// # Errors
    /// [`ProfileError::NoSysctl`] if it is to be switched off and there is no such sysctl.
    pub fn with_mitigate(&self, mitigate: bool) -> Result<Self, ProfileError> {
        Self {
            mitigate,
            ..self.clone()
        }
        .checked()
    }

    /// The same kernel built with another tick rate.
    #[must_use]
    pub fn with_hz(&self, hz: Hz) -> Self {
        Self { hz, ..self.clone() }
    }

    fn checked(self) -> Result<Self, ProfileError> {
        let features = &self.features;
        if features.era == Era::None && self.mode != Mode::Off {
            return Err(ProfileError::ModeWithoutDetection);
        }
        if let Mode::Ratelimit(n) = self.mode {
            if !features.ratelimit {
                return Err(ProfileError::NoRatelimit);
            }
            if !(1..=1000).contains(&n) {
                return Err(ProfileError::RatelimitRange(n.into()));
            }
        }
        if features.sysctl && features.era != Era::Misery {
            return Err(ProfileError::SysctlWithoutMisery);
        }
        if features.per_cpu_reenable && !features.sysctl {
            return Err(ProfileError::PerCpuWithoutSysctl);
        }
        if !self.mitigate && !features.sysctl {
            return Err(ProfileError::NoSysctl);
        }
        Ok(self)
    }
}

impl fmt::Display for Profile {
    /// One line that parses back to the same profile.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        parse::write_line(self, f)
    }
}

impl std::str::FromStr for Profile {
    type Err = ParseProfileError;

    /// # Errors
    /// [`ParseProfileError`], which names the field that is wrong.
    fn from_str(text: &str) -> Result<Self, ParseProfileError> {
        parse::line(text)
    }
}

impl TryFrom<String> for Profile {
    type Error = ParseProfileError;

    fn try_from(text: String) -> Result<Self, ParseProfileError> {
        text.parse()
    }
}

impl From<Profile> for String {
    fn from(profile: Profile) -> Self {
        profile.to_string()
    }
}

/// Puts a [`Profile`] together field by field.
///
/// ```
/// use split_lock_model::kernel::{Era, Features, Mode, Profile};
/// use split_lock_model::time::Hz;
///
/// let features = Features { era: Era::Misery, sysctl: true, ..Features::NONE };
/// let profile = Profile::builder(features).hz(Hz::HZ_300).mitigate(false).build()?;
/// assert_eq!(profile.mode(), Mode::Warn);
/// # Ok::<(), split_lock_model::kernel::ProfileError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ProfileBuilder {
    profile: Profile,
}

impl ProfileBuilder {
    pub(super) fn new(base: String, features: Features) -> Self {
        let mode = parse::default_mode(&features);
        Self {
            profile: Profile {
                base,
                features,
                hz: Hz::HZ_250,
                mode,
                mitigate: true,
            },
        }
    }

    /// Sets the tick rate; 250 Hz otherwise.
    #[must_use]
    pub fn hz(mut self, hz: Hz) -> Self {
        self.profile.hz = hz;
        self
    }

    /// Sets the boot mode; otherwise `warn`, or `off` where there is no detection.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.profile.mode = mode;
        self
    }

    /// Sets `kernel.split_lock_mitigate`; 1 otherwise.
    #[must_use]
    pub fn mitigate(mut self, mitigate: bool) -> Self {
        self.profile.mitigate = mitigate;
        self
    }

    pub(super) fn features_mut(&mut self) -> &mut Features {
        &mut self.profile.features
    }

    /// Checks that a kernel can be like this.
    ///
    /// # Errors
    /// [`ProfileError`], which names the field that cannot be.
    pub fn build(self) -> Result<Profile, ProfileError> {
        self.profile.checked()
    }
}
