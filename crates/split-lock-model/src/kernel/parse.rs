//! A profile as one line of text: `BASE[,FIELD=VALUE]...`, read and written.

use std::fmt;

use crate::time::{Hz, UnknownHz};

use super::catalogue::Distribution;
use super::features::{Era, Features};
use super::profile::{Mode, Profile, ProfileBuilder, ProfileError};
use super::release::{Release, ReleaseError};

/// The base of a profile that names no kernel.
pub(super) const BY_HAND: &str = "custom";

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

/// What a base means by itself.
pub(super) struct Base {
    pub(super) features: Features,
    pub(super) hz: Hz,
    pub(super) note: Option<&'static str>,
}

pub(super) fn base(text: &str) -> Result<Base, ParseProfileError> {
    if text == BY_HAND {
        return Ok(Base {
            features: Features::NONE,
            hz: Hz::HZ_250,
            note: None,
        });
    }
    if let Some(distribution) = Distribution::named(text) {
        let features = distribution.release.lookup("").features;
        return Ok(Base {
            features,
            hz: distribution.hz,
            note: distribution.note,
        });
    }
    let (release, suffix) =
        Release::parse_prefix(text).map_err(|source| ParseProfileError::Base {
            base: text.to_owned(),
            source,
        })?;
    let found = release.lookup(suffix);
    Ok(Base {
        features: found.features,
        hz: Hz::HZ_250,
        note: found.note,
    })
}

pub(super) fn default_mode(features: &Features) -> Mode {
    if features.era == Era::None {
        Mode::Off
    } else {
        Mode::Warn
    }
}

pub(super) fn line(text: &str) -> Result<Profile, ParseProfileError> {
    if text.len() > MAX_TEXT {
        return Err(ParseProfileError::TooLong(text.len()));
    }
    let mut parts = text.split(',').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let Base { features, hz, .. } = base(name)?;
    let mut builder = ProfileBuilder::new(name.to_owned(), features).hz(hz);
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
            "hz" => builder = builder.hz(read_hz(value)?),
            "mode" => mode = Some(read_mode(value)?),
            "mitigate" => builder = builder.mitigate(read_flag(field, value)?),
            _ => set_feature(builder.features_mut(), field, value)?,
        }
    }
    // The era may have come after the base, so the default mode is known only now.
    let mode = mode.unwrap_or_else(|| default_mode(builder.features_mut()));
    Ok(builder.mode(mode).build()?)
}

fn set_feature(features: &mut Features, field: &str, value: &str) -> Result<(), ParseProfileError> {
    if field == "era" {
        features.era = read_era(value)?;
        return Ok(());
    }
    let feature = match field {
        "extra_jiffy" => &mut features.extra_jiffy,
        "sysctl" => &mut features.sysctl,
        "per_cpu_reenable" => &mut features.per_cpu_reenable,
        "ratelimit" => &mut features.ratelimit,
        "intel_bus_lock" => &mut features.intel_bus_lock,
        "amd_bus_lock" => &mut features.amd_bus_lock,
        _ => return Err(ParseProfileError::UnknownField(field.to_owned())),
    };
    *feature = read_flag(field, value)?;
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

fn read_era(value: &str) -> Result<Era, ParseProfileError> {
    match value {
        "none" => Ok(Era::None),
        "thread" => Ok(Era::Thread),
        "misery" => Ok(Era::Misery),
        _ => Err(wrong("era", value, "none, thread or misery")),
    }
}

fn era_name(era: Era) -> &'static str {
    match era {
        Era::None => "none",
        Era::Thread => "thread",
        Era::Misery => "misery",
    }
}

/// The tick rate always, because thresholds hang on it; anything else only where it is not what the
/// base and the defaults say.
pub(super) fn write_line(profile: &Profile, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (is, base) = (&profile.features, base(&profile.base).map(|b| b.features));
    let was = base.unwrap_or(Features::NONE);
    write!(f, "{},hz={}", profile.base, profile.hz)?;
    if is.era != was.era {
        write!(f, ",era={}", era_name(is.era))?;
    }
    for (name, is, was) in [
        ("extra_jiffy", is.extra_jiffy, was.extra_jiffy),
        ("sysctl", is.sysctl, was.sysctl),
        (
            "per_cpu_reenable",
            is.per_cpu_reenable,
            was.per_cpu_reenable,
        ),
        ("ratelimit", is.ratelimit, was.ratelimit),
        ("intel_bus_lock", is.intel_bus_lock, was.intel_bus_lock),
        ("amd_bus_lock", is.amd_bus_lock, was.amd_bus_lock),
    ] {
        if is != was {
            write!(f, ",{name}={}", u8::from(is))?;
        }
    }
    if profile.mode != default_mode(is) {
        write!(f, ",mode={}", profile.mode)?;
    }
    if !profile.mitigate {
        write!(f, ",mitigate=0")?;
    }
    Ok(())
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
        let long = "6".repeat(MAX_TEXT + 1);
        assert!(
            long.parse::<Profile>()
                .expect_err("refused")
                .to_string()
                .starts_with("kernel:")
        );
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
