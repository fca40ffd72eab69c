//! A profile as one line of text: `BASE[,FIELD=VALUE]...`, read and written.

use std::fmt;
use std::str::FromStr;

use crate::time::{Hz, UnknownHz};

use super::catalogue::Distribution;
use super::features::{Era, Features, Mode};
use super::profile::{CUSTOM, Profile, ProfileError};
use super::release::{Release, ReleaseError};

/// The longest text that is read as a profile, in bytes.
pub const MAX_TEXT: usize = 256;

/// A line that is not a profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseProfileError {
    /// Longer than any kernel's name.
    #[error("kernel: {0} bytes are too long for a kernel profile (at most {MAX_TEXT})")]
    TooLong(usize),
    /// The base is neither a release nor a distribution.
    #[error("kernel: {base:?} is neither a distribution known here ({known}) nor a release: {source}", known = known_names())]
    Base {
        /// What was written.
        base: String,
        /// Why it is no release.
        source: ReleaseError,
    },
    /// A part without `=`.
    #[error("kernel: {0:?} is not of the form field=value")]
    NotAField(String),
    /// A field that there is not.
    #[error(
        "{0}: no such field; there are hz, mode, mitigate, era, extra_jiffy, sysctl, per_cpu_reenable, ratelimit, intel_bus_lock, amd_bus_lock"
    )]
    UnknownField(String),
    /// The same field twice.
    #[error("{0}: given twice")]
    Twice(String),
    /// A value that the field does not take.
    #[error("{field}: {value:?} is not {expected}")]
    Value {
        /// The field.
        field: String,
        /// What was written.
        value: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// A tick rate that no kernel offers.
    #[error(transparent)]
    Hz(#[from] UnknownHz),
    /// Fields that cannot go together.
    #[error(transparent)]
    Impossible(#[from] ProfileError),
}

fn known_names() -> String {
    let names: Vec<_> = Distribution::ALL.iter().map(|d| d.name).collect();
    names.join(", ")
}

/// The features, tick rate and note of a base by itself.
fn base(text: &str) -> Result<(Features, Hz, Option<&'static str>), ParseProfileError> {
    if text == CUSTOM {
        return Ok((Features::NONE, Hz::HZ_250, None));
    }
    if let Some(found) = Distribution::named(text) {
        return Ok((found.release.lookup("").features, found.hz, found.note));
    }
    let (release, suffix) =
        Release::parse_prefix(text).map_err(|source| ParseProfileError::Base {
            base: text.to_owned(),
            source,
        })?;
    let found = release.lookup(suffix);
    Ok((found.features, Hz::HZ_250, found.note))
}

impl Profile {
    /// Why this profile may not be what the named kernel does, if there is a reason.
    #[must_use]
    pub fn note(&self) -> Option<&'static str> {
        base(self.base()).ok().and_then(|(_, _, note)| note)
    }
}

impl FromStr for Profile {
    type Err = ParseProfileError;

    /// # Errors
    /// [`ParseProfileError`], which names the field that is wrong.
    fn from_str(text: &str) -> Result<Self, ParseProfileError> {
        if text.len() > MAX_TEXT {
            return Err(ParseProfileError::TooLong(text.len()));
        }
        let mut parts = text.split(',').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let (features, hz, _) = base(name)?;
        let mut profile = Self::new(name, features, hz);
        let mut mode = None;
        let mut seen = Vec::new();
        for part in parts {
            let (field, value) = part
                .split_once('=')
                .ok_or_else(|| ParseProfileError::NotAField(part.to_owned()))?;
            if seen.contains(&field) {
                return Err(ParseProfileError::Twice(field.to_owned()));
            }
            seen.push(field);
            match field {
                "hz" => profile.hz = read_hz(value)?,
                "mode" => mode = Some(read_mode(value)?),
                "mitigate" => profile.mitigate = read_flag(field, value)?,
                _ => set_feature(&mut profile.features, field, value)?,
            }
        }
        // The era may have come after the base, so the default mode is known only now.
        profile.mode = mode.unwrap_or_else(|| profile.features.default_mode());
        Ok(profile.checked()?)
    }
}

type Flag = fn(&mut Features) -> &mut bool;

const FLAGS: [(&str, Flag); 6] = [
    ("extra_jiffy", |features| &mut features.extra_jiffy),
    ("sysctl", |features| &mut features.sysctl),
    ("per_cpu_reenable", |features| {
        &mut features.per_cpu_reenable
    }),
    ("ratelimit", |features| &mut features.ratelimit),
    ("intel_bus_lock", |features| &mut features.intel_bus_lock),
    ("amd_bus_lock", |features| &mut features.amd_bus_lock),
];

const ERAS: [Era; 3] = [Era::None, Era::Thread, Era::Misery];

impl Era {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Thread => "thread",
            Self::Misery => "misery",
        }
    }
}

fn set_feature(features: &mut Features, field: &str, value: &str) -> Result<(), ParseProfileError> {
    if field == "era" {
        let era = ERAS.into_iter().find(|era| era.name() == value);
        features.era = era.ok_or_else(|| wrong("era", value, "none, thread or misery"))?;
    } else if let Some((_, flag)) = FLAGS.iter().find(|(name, _)| *name == field) {
        *flag(features) = read_flag(field, value)?;
    } else {
        return Err(ParseProfileError::UnknownField(field.to_owned()));
    }
    Ok(())
}

fn wrong(field: &str, value: &str, expected: &'static str) -> ParseProfileError {
    ParseProfileError::Value {
        field: field.to_owned(),
        value: value.to_owned(),
        expected,
    }
}

fn read_flag(field: &str, value: &str) -> Result<bool, ParseProfileError> {
    match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(wrong(field, value, "0 or 1")),
    }
}

fn read_hz(value: &str) -> Result<Hz, ParseProfileError> {
    let ticks = value
        .parse()
        .map_err(|_| wrong("hz", value, "100, 250, 300 or 1000"))?;
    Ok(Hz::new(ticks)?)
}

fn read_mode(value: &str) -> Result<Mode, ParseProfileError> {
    match value {
        "off" => return Ok(Mode::Off),
        "warn" => return Ok(Mode::Warn),
        "fatal" => return Ok(Mode::Fatal),
        _ => {}
    }
    let n: u32 = value
        .strip_prefix("ratelimit:")
        .and_then(|n| n.parse().ok())
        .ok_or_else(|| wrong("mode", value, "off, warn, fatal or ratelimit:N"))?;
    let n = u16::try_from(n).map_err(|_| ProfileError::RatelimitRange(n))?;
    Ok(Mode::Ratelimit(n))
}

impl fmt::Display for Profile {
    /// One line that parses back to the same profile: the tick rate always, because thresholds hang
    /// on it; anything else only where it is not what the base and the defaults say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut is = self.features;
        let mut was = base(&self.base).map_or(Features::NONE, |(features, ..)| features);
        write!(f, "{},hz={}", self.base, self.hz)?;
        if is.era != was.era {
            write!(f, ",era={}", is.era.name())?;
        }
        for (name, flag) in FLAGS {
            let set = *flag(&mut is);
            if set != *flag(&mut was) {
                write!(f, ",{name}={}", u8::from(set))?;
            }
        }
        if self.mode != is.default_mode() {
            write!(f, ",mode={}", self.mode)?;
        }
        if !self.mitigate {
            write!(f, ",mitigate=0")?;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(text: &str) -> Profile {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn one_line_says_everything() {
        for text in [
            "6.6,hz=1000",
            "6.6,hz=1000,mitigate=0",
            "6.1.192-1-amd64,hz=250",
            "6.18.44-fc,hz=300,mode=fatal",
            "debian-13,hz=250,mode=ratelimit:20",
            "5.4,hz=100",
            "custom,hz=250,era=misery,extra_jiffy=0,sysctl=1,mitigate=0",
            "rhel-9,hz=1000,era=misery,sysctl=1",
        ] {
            assert_eq!(profile(text).to_string(), text);
        }
        assert_eq!(
            profile("6.6,hz=1000,mode=warn,mitigate=1").to_string(),
            "6.6,hz=1000"
        );
    }

    #[test]
    fn the_text_and_the_json_are_the_same_line() {
        let profile = profile("6.6,hz=1000,mitigate=0");
        let json = serde_json::to_string(&profile).expect("a string");
        assert_eq!(json, "\"6.6,hz=1000,mitigate=0\"");
        assert_eq!(
            serde_json::from_str::<Profile>(&json).expect("reads back"),
            profile
        );
    }

    #[test]
    fn errors_name_the_field() {
        for (text, field) in [
            ("frob", "kernel:"),
            ("6.6,hz", "kernel:"),
            ("6.6,hz=99", "hz:"),
            ("6.6,hz=x", "hz:"),
            ("6.6,colour=red", "colour:"),
            ("6.6,hz=250,hz=250", "hz:"),
            ("6.6,mode=loud", "mode:"),
            ("6.6,mode=ratelimit:0", "mode:"),
            ("6.6,mode=ratelimit:1001", "mode:"),
            ("6.6,mode=ratelimit:99999999", "mode:"),
            ("5.13,mode=ratelimit:5", "mode:"),
            ("5.4,mode=warn", "mode:"),
            ("6.6,mitigate=2", "mitigate:"),
            ("6.1.1,mitigate=0", "mitigate:"),
            ("5.15,sysctl=1", "sysctl:"),
            ("6.1.1,per_cpu_reenable=1", "per_cpu_reenable:"),
            ("6.6,era=golden", "era:"),
        ] {
            let error = text.parse::<Profile>().expect_err(text).to_string();
            assert!(error.starts_with(field), "{text}: {error}");
        }
        let long = "6".repeat(MAX_TEXT + 1).parse::<Profile>();
        let error = long.expect_err("refused").to_string();
        assert!(error.starts_with("kernel:"), "{error}");
    }

    #[test]
    fn distributions_are_known_by_name() {
        let debian = profile("debian-12");
        assert!(debian.features().extra_jiffy && debian.features().per_cpu_reenable);
        assert!(!profile("debian-13").features().extra_jiffy);
        assert_eq!(profile("ubuntu-22.04").features().era, Era::Thread);
        assert!(profile("rhel-9").note().is_some());
        assert!(profile("8.3").note().is_some() && profile("6.6").note().is_none());
    }
}
