//! The command line of `demo`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use split_lock_assist::guard::Reaction;
use split_lock_repro::linux::MOST_MEMORY;

use super::values::positive_duration;

/// Show what split locks do to a system that people know.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  splitlock demo linux --kernel /boot/vmlinuz-$(uname -r) --guard emulate\n\n\
    Exit codes: 0 fine, 1 the guest hung and --fail-on hang was given, 2 usage or environment error."
)]
pub(crate) struct DemoArgs {
    #[command(subcommand)]
    pub(crate) demo: Demo,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Demo {
    Linux(LinuxArgs),
}

/// Boot an ordinary Linux kernel in a VM whose vCPU is called out every millisecond, and let it split.
///
/// The guest's console is shown as it comes. At the guest's prompt a program is started that splits 1000
/// locks as a real-time program. Where the host punishes split locks it does not get past the first one, and
/// the guest's kernel complains by itself; with `--guard emulate` or `auto` it gets on. Nothing of the host is changed, and the guest has
/// no disk and no network.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    splitlock demo linux --kernel /boot/vmlinuz-$(uname -r)\n  \
    splitlock demo linux --kernel bzImage --initrd initrd.img --guard emulate\n  \
    splitlock demo linux --kernel bzImage --quantum 50ms --duration 30s --log console.txt\n\n\
    Exit codes: 0 fine, 1 the guest hung and --fail-on hang was given, 2 usage or environment error (such \
    as a guest that does not come to its prompt), 130 stopped by Ctrl-C.")]
pub(crate) struct LinuxArgs {
    /// The guest's kernel, a bzImage.
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: PathBuf,
    /// What the guest's kernel unpacks: any initrd. If it has a /bin/sh, that is the guest's shell.
    /// Without this option the guest has the splitting program and nothing else.
    #[arg(long, value_name = "FILE")]
    pub(crate) initrd: Option<PathBuf>,
    /// vCPU timeout per run.
    #[arg(long, value_name = "DURATION", value_parser = quantum, default_value = "1ms")]
    pub(crate) quantum: Duration,
    /// What to do about a guest that split locks hold up. `report` says where; `grace` lets a run last
    /// until the host's kernel is done with its punishment; `emulate` does the instruction in the CPU's place;
    /// `auto` emulates, and where that cannot be done it lets a run last.
    #[arg(
        long,
        value_name = "off|report|grace|emulate|auto",
        default_value = "off"
    )]
    pub(crate) guard: Reaction,
    /// How long to listen to the guest once it has begun to split.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration, default_value = "10s")]
    pub(crate) duration: Duration,
    /// How long the guest may take to its prompt.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration, default_value = "120s")]
    pub(crate) boot_timeout: Duration,
    /// The guest's memory.
    #[arg(long, value_name = "SIZE", value_parser = memory, default_value = "256MiB")]
    pub(crate) memory: u64,
    /// More for the guest's kernel command line.
    #[arg(
        long,
        value_name = "WORDS",
        default_value = "",
        allow_hyphen_values = true
    )]
    pub(crate) append: String,
    /// The KVM device.
    #[arg(long, value_name = "DEVICE", default_value = "/dev/kvm")]
    pub(crate) kvm: PathBuf,
    /// Print what was counted as JSON, and not the console.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the guest's console to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// End with exit code 1 if the guest hung.
    #[arg(long, value_enum, value_name = "PROBLEM")]
    pub(crate) fail_on: Option<FailOn>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailOn {
    /// The guest hung.
    Hang,
}

/// Between two runs the console is shown, the clock looked at, and Ctrl-C heard.
const LONGEST_QUANTUM: Duration = Duration::from_secs(1);

fn quantum(text: &str) -> Result<Duration, String> {
    match positive_duration(text)? {
        time if time > LONGEST_QUANTUM => Err("it can be 1s at most".into()),
        time => Ok(time),
    }
}

/// Not so little that even the loader's own tables would not fit.
const LEAST_MEMORY: u64 = 16 << 20;

fn memory(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u32); 2] = [("MiB", 20), ("GiB", 30)];
    let size = UNITS.iter().find_map(|&(unit, shift)| {
        let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        number.checked_mul(1 << shift)
    });
    let size = size.ok_or("a size is written as 256MiB or 1GiB")?;
    if !(LEAST_MEMORY..=MOST_MEMORY).contains(&size) {
        let (least, most) = (LEAST_MEMORY >> 20, MOST_MEMORY >> 30);
        return Err(format!("a guest has from {least}MiB to {most}GiB here"));
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_a_unit_and_limits() {
        assert_eq!(memory("256MiB"), Ok(256 << 20));
        assert_eq!(memory("1 GiB"), Ok(1 << 30));
        for wrong in [
            "256",
            "256M",
            "-1MiB",
            "4GiB",
            "1MiB",
            "99999999999999999999GiB",
            "",
        ] {
            assert!(memory(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_quantum_is_short() {
        assert_eq!(quantum("50ms"), Ok(Duration::from_millis(50)));
        assert!(quantum("1s").is_ok() && quantum("1001ms").is_err() && quantum("0ms").is_err());
    }
}
