//! `split_lock_detect=`, as the kernel reads it.

use std::fmt;

use serde::Serialize;

/// What the command line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing is detected.
    Off,
    /// Warn, and slow down: what a kernel does by itself.
    Warn,
    /// SIGBUS.
    Fatal,
    /// No #AC, and so many bus locks a second for all programs together; with no number, as many as they like.
    RateLimit(Option<u16>),
}

const PARAMETER: &str = "split_lock_detect=";

impl Mode {
    /// The kernel looks at the last one alone, and stays at `warn` if it does not know it.
    #[must_use]
    pub fn of(command_line: &str) -> Self {
        parameter(command_line)
            .and_then(|parameter| Self::parse(&parameter[PARAMETER.len()..]))
            .unwrap_or(Mode::Warn)
    }

    fn parse(value: &str) -> Option<Self> {
        match value {
            "off" => Some(Mode::Off),
            "warn" => Some(Mode::Warn),
            "fatal" => Some(Mode::Fatal),
            _ => rate_limit(value).map(Mode::RateLimit),
        }
    }
}

/// The parameter that counts, as it is written.
#[must_use]
pub(crate) fn parameter(command_line: &str) -> Option<&str> {
    command_line
        .split_whitespace()
        .rfind(|word| word.starts_with(PARAMETER))
}

/// Words that are met on command lines and that no kernel knows.
pub(crate) fn inert_parameters(command_line: &str) -> impl Iterator<Item = &str> {
    const NAMES: [&str; 8] = [
        "split_lock",
        "nosplit_lock",
        "nosplit_lock_mitigate",
        "split_lock_mitigate",
        "nosplit_lock_detect",
        "no_split_lock_detect",
        "bus_lock_detect",
        "kernel.split_lock_mitigate",
    ];
    command_line.split_whitespace().filter(|word| {
        let name = word.split('=').next().unwrap_or(word).replace('-', "_");
        let value = word.strip_prefix(PARAMETER);
        NAMES.contains(&&*name)
            || *word == "split_lock_detect"
            || value.is_some_and(|value| Mode::parse(value).is_none())
    })
}

/// As the kernel's `sscanf` sees it: what follows the digits does not count, and without any number
/// the name of the mode is enough.
fn rate_limit(value: &str) -> Option<Option<u16>> {
    let rate = value.strip_prefix("ratelimit:")?;
    let digits = rate.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = &rate[..rate.len() - digits.len()];
    match digits.parse() {
        Ok(rate @ 1..=1000) => Some(Some(rate)),
        _ if rate.is_empty() => Some(None),
        _ => None,
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mode::Off => f.write_str("off"),
            Mode::Warn => f.write_str("warn"),
            Mode::Fatal => f.write_str("fatal"),
            Mode::RateLimit(Some(per_second)) => write!(f, "ratelimit:{per_second}"),
            Mode::RateLimit(None) => f.write_str("ratelimit:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_counts() {
        let line = "quiet split_lock_detect=fatal x=split_lock_detect=off split_lock_detect=off";
        assert_eq!(Mode::of(line), Mode::Off);
        assert_eq!(parameter(line), Some("split_lock_detect=off"));
        assert_eq!(Mode::of("quiet"), Mode::Warn);
        assert_eq!(parameter("quiet split_lock_detect"), None);
    }

    #[test]
    fn what_no_kernel_knows_is_found() {
        let line = "quiet split_lock=off nosplit_lock_mitigate split_lock_detect=on split_lock_detect=off \
                    sysctl.kernel.split_lock_mitigate=0 split_lock_mitigate=0";
        let found: Vec<&str> = inert_parameters(line).collect();
        assert_eq!(
            found,
            [
                "split_lock=off",
                "nosplit_lock_mitigate",
                "split_lock_detect=on",
                "split_lock_mitigate=0"
            ]
        );
    }

    #[test]
    fn a_mode_that_the_kernel_does_not_know_leaves_it_at_warn() {
        let unknown = "on OFF offline fatal, ratelimit ratelimit:0 ratelimit:1001 ratelimit:-1 \
            ratelimit:ten ratelimit:99999999999999999999";
        for mode in unknown.split(' ').chain([""]) {
            let line = format!("split_lock_detect=off split_lock_detect={mode}");
            assert_eq!(Mode::of(&line), Mode::Warn, "{mode}");
        }
        for (mode, rate) in [
            ("ratelimit:1", Some(1)),
            ("ratelimit:1000", Some(1000)),
            ("ratelimit:10/s", Some(10)),
            ("ratelimit:", None),
        ] {
            let mode = Mode::of(&format!("split_lock_detect={mode}"));
            assert_eq!(mode, Mode::RateLimit(rate));
        }
    }
}
