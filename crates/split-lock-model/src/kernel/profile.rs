//! One kernel, as configured and booted.

use serde::{Deserialize, Serialize};

use super::features::{Era, Features, Mode};
use crate::machine::{Hardware, Vendor};
use crate::time::{Hz, Jiffies};

/// The base of a profile that names no kernel.
pub(super) const CUSTOM: &str = "custom";

/// What a kernel does about split locks: its features, tick rate, boot mode and sysctl.
///
/// ```
/// use split_lock_model::kernel::{Era, Features, Mode, Profile};
/// use split_lock_model::time::Hz;
///
/// let profile: Profile = "6.6,hz=1000,mitigate=0".parse()?;
/// assert_eq!(profile.to_string(), "6.6,hz=1000,mitigate=0");
/// assert!("5.15,mitigate=0".parse::<Profile>().is_err(), "5.15 has no such sysctl");
///
/// let features = Features { era: Era::Misery, sysctl: true, ..Features::NONE };
/// let profile = Profile::custom(features)?.with_hz(Hz::HZ_300).with_mitigate(false)?;
/// assert_eq!(profile.mode(), Mode::Warn);
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
    /// A kernel with these features and no name, at 250 Hz, with everything else as it boots.
    ///
    /// # Errors
    /// [`ProfileError`] if no kernel can have these features together.
    pub fn custom(features: Features) -> Result<Self, ProfileError> {
        Self::new(CUSTOM, features, Hz::HZ_250).checked()
    }

    /// As it boots without options.
    pub(super) fn new(base: &str, features: Features, hz: Hz) -> Self {
        Self {
            base: base.to_owned(),
            features,
            hz,
            mode: features.default_mode(),
            mitigate: true,
        }
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

    pub(super) fn checked(self) -> Result<Self, ProfileError> {
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
