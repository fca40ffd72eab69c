//! Whether a split lock is noticed on this machine, from its CPU flags, command line and sysctl.

use std::fmt;

use split_lock_model::kernel::{self, Profile};

use crate::{Facts, Mode};

/// What the machine does about split locks, as far as its settings tell.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Detection {
    /// The CPU cannot detect them: they cost what the hardware makes them cost.
    NotSupported {
        /// Whether the machine is a virtual one, whose host may detect them all the same. (AMD's CPUs never do.)
        virtual_machine: bool,
    },
    /// The CPU could detect them, and the command line says not to.
    Off {
        /// The parameter that says so.
        parameter: String,
    },
    /// #AC, and the mode of the kernel.
    On {
        /// `warn`, or what the command line asks for.
        mode: String,
        /// `kernel.split_lock_mitigate`, where it exists.
        mitigate: Option<String>,
    },
    /// The CPU's flags could not be seen.
    Unknown,
}

impl Facts {
    /// What follows from the CPU's flags and the kernel's settings.
    #[must_use]
    pub fn detection(&self) -> Detection {
        match self.has_cpu_flag("split_lock_detect") {
            None => Detection::Unknown,
            Some(false) => Detection::NotSupported {
                virtual_machine: self.has_cpu_flag("hypervisor") == Some(true) && !self.is_amd(),
            },
            Some(true) => match Mode::of(self.command_line.known().map_or("", String::as_str)) {
                // With a rate limit only bus locks are looked at, and #AC is off.
                mode @ (Mode::Off | Mode::RateLimit(_)) => Detection::Off {
                    parameter: format!("split_lock_detect={mode}"),
                },
                mode @ (Mode::Warn | Mode::Fatal) => Detection::On {
                    mode: mode.to_string(),
                    mitigate: self.split_lock_mitigate.known().cloned(),
                },
            },
        }
    }
}

impl Detection {
    /// This machine's kernel in the mode that it runs in, if it notices anything; `warn` is what the kernel would be in
    /// mode `warn`.
    #[must_use]
    pub fn as_booted(&self, warn: &Profile) -> Option<Profile> {
        match self {
            Detection::On { mode, mitigate } => {
                let mode = match mode.as_str() {
                    "fatal" => kernel::Mode::Fatal,
                    _ => kernel::Mode::Warn,
                };
                let booted = warn.with_mode(mode).ok()?;
                let mitigates = mitigate.as_deref() != Some("0");
                Some(booted.with_mitigate(mitigates).unwrap_or(booted))
            }
            Detection::Off { parameter } => {
                let rate = parameter.rsplit_once("ratelimit:")?.1.parse().ok()?;
                warn.with_mode(kernel::Mode::Ratelimit(rate)).ok()
            }
            _ => None,
        }
    }
}

impl fmt::Display for Detection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("split-lock detection: ")?;
        match self {
            Detection::NotSupported {
                virtual_machine: false,
            } => f.write_str("not supported by this CPU"),
            Detection::NotSupported {
                virtual_machine: true,
            } => f.write_str("not available in this virtual machine (its host decides)"),
            Detection::Off { parameter } => write!(f, "off ({parameter})"),
            Detection::On { mode, mitigate } => {
                write!(f, "on ({mode}")?;
                match mitigate.as_deref() {
                    Some(value) => write!(f, ", split_lock_mitigate={value})"),
                    None => f.write_str(")"),
                }
            }
            Detection::Unknown => f.write_str("unknown (the CPU's flags could not be seen)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::facts::fixture;

    fn sentence(flags: &str, command_line: &str, mitigate: Option<&str>) -> String {
        let cpuinfo = format!("flags : {flags}\n");
        let mut files = vec![
            ("proc/cpuinfo", &cpuinfo[..]),
            ("proc/cmdline", command_line),
        ];
        files.extend(mitigate.map(|value| ("proc/sys/kernel/split_lock_mitigate", value)));
        fixture::facts(&files).detection().to_string()
    }

    #[test]
    fn each_kind_of_machine_gets_its_sentence() {
        let sld = "fpu split_lock_detect";
        let (no, one) = (None, Some("1"));
        let guest = "not available in this virtual machine (its host decides)";
        let off = "split_lock_detect=fatal split_lock_detect=off";
        let rate = "split_lock_detect=ratelimit:100";
        for (flags, command_line, mitigate, expected) in [
            ("fpu", "", one, "not supported by this CPU"),
            ("fpu hypervisor", "", one, guest),
            (sld, "quiet", one, "on (warn, split_lock_mitigate=1)"),
            (sld, "", no, "on (warn)"),
            (sld, "split_lock_detect=fatal", no, "on (fatal)"),
            (sld, off, one, "off (split_lock_detect=off)"),
            (sld, rate, one, "off (split_lock_detect=ratelimit:100)"),
        ] {
            let expected = format!("split-lock detection: {expected}");
            assert_eq!(sentence(flags, command_line, mitigate), expected);
        }
    }
}
