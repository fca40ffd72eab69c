//! Whether a split lock is noticed on this machine, from its CPU flags, command line and sysctl.

use std::fmt;

use crate::Facts;

/// What the machine does about split locks, as far as its settings tell.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Detection {
    /// The CPU cannot detect them: they cost what the hardware makes them cost.
    NotSupported {
        /// Whether the machine is a virtual one, whose host may detect them all the same.
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

impl Detection {
    pub(crate) fn of(facts: &Facts) -> Self {
        match facts.has_cpu_flag("split_lock_detect") {
            None => Detection::Unknown,
            Some(false) => Detection::NotSupported {
                virtual_machine: facts.has_cpu_flag("hypervisor") == Some(true),
            },
            Some(true) => Self::of_mode(facts),
        }
    }

    fn of_mode(facts: &Facts) -> Self {
        let command_line = facts.command_line.known().map_or("", String::as_str);
        // The kernel looks at the last one alone, and stays at `warn` if it does not know it.
        let mode = command_line
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("split_lock_detect="))
            .next_back()
            .unwrap_or("warn");
        // With a rate limit only bus locks are looked at, and #AC is off.
        if mode == "off" || is_rate_limit(mode) {
            return Detection::Off {
                parameter: format!("split_lock_detect={mode}"),
            };
        }
        Detection::On {
            mode: if mode == "fatal" { "fatal" } else { "warn" }.to_owned(),
            mitigate: facts.split_lock_mitigate.known().cloned(),
        }
    }
}

/// As the kernel's `sscanf` sees it: what follows the digits does not count, and without any number
/// the name of the mode is enough.
fn is_rate_limit(mode: &str) -> bool {
    let Some(rate) = mode.strip_prefix("ratelimit:") else {
        return false;
    };
    let digits = rate.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = &rate[..rate.len() - digits.len()];
    rate.is_empty() || matches!(digits.parse::<u32>(), Ok(1..=1000))
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
        let one = || Some("1");
        for (flags, command_line, mitigate, expected) in [
            ("fpu", "", one(), "not supported by this CPU"),
            (
                "fpu hypervisor",
                "",
                one(),
                "not available in this virtual machine (its host decides)",
            ),
            (sld, "quiet", one(), "on (warn, split_lock_mitigate=1)"),
            (sld, "", None, "on (warn)"),
            (sld, "split_lock_detect=fatal", None, "on (fatal)"),
            (
                sld,
                "split_lock_detect=fatal split_lock_detect=off",
                one(),
                "off (split_lock_detect=off)",
            ),
            (
                sld,
                "split_lock_detect=ratelimit:100",
                one(),
                "off (split_lock_detect=ratelimit:100)",
            ),
        ] {
            let expected = format!("split-lock detection: {expected}");
            assert_eq!(sentence(flags, command_line, mitigate), expected);
        }
    }

    #[test]
    fn a_mode_that_the_kernel_does_not_know_leaves_it_at_warn() {
        for mode in [
            "",
            "on",
            "OFF",
            "offline",
            "fatal,",
            "ratelimit",
            "ratelimit:0",
            "ratelimit:1001",
            "ratelimit:-1",
            "ratelimit:ten",
            "ratelimit:99999999999999999999",
        ] {
            let command_line = format!("split_lock_detect=off split_lock_detect={mode}");
            let sentence = sentence("split_lock_detect", &command_line, None);
            assert_eq!(sentence, "split-lock detection: on (warn)", "{mode}");
        }
        for mode in [
            "ratelimit:1",
            "ratelimit:1000",
            "ratelimit:10/s",
            "ratelimit:",
        ] {
            let command_line = format!("split_lock_detect={mode}");
            let sentence = sentence("split_lock_detect", &command_line, None);
            assert!(sentence.contains(": off ("), "{mode}: {sentence}");
        }
    }
}
