//! Which CPU it is to be.

use std::fmt;

use clap::{Args, ValueEnum};

/// The CPU's options. `lab/cpu/README.md` says what each of them does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "CPU")]
pub struct CpuOptions {
    /// What it detects: split locks with #AC, bus locks with #DB, both, or neither.
    #[arg(long, value_enum, default_value_t = Detect::SplitLock)]
    pub detect: Detect,
    /// Whose it looks like.
    #[arg(long, value_enum, default_value_t = Vendor::Intel)]
    pub vendor: Vendor,
    /// Logical CPUs.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub cpus: u8,
    /// How many of them are one core and share its TEST_CTRL.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub threads_per_core: u8,
    /// How long a bus lock takes, in nanoseconds.
    #[arg(long, value_name = "NS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=10_000_000))]
    pub bus_lock_ns: u32,
    /// Of its random numbers. The same seed makes the same run.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u32,
    /// Give each bus lock that is let through a line in the CPU's journal.
    #[arg(long)]
    pub journal_locks: bool,
}

/// Whose CPU it looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Vendor {
    /// Tiger Lake, with VMX.
    Intel,
    /// A Ryzen, with SVM.
    Amd,
}

/// What the CPU detects, if the kernel asks for it. The names are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Detect {
    /// Split locks, before they happen: #AC.
    #[value(name = "ac")]
    SplitLock,
    /// Bus locks, after they have happened: #DB.
    #[value(name = "db")]
    BusLock,
    /// Both.
    Both,
    /// Neither.
    #[value(name = "none")]
    Nothing,
}

/// A CPU that cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cpus} CPUs cannot be cores of {threads_per_core} threads each; a core has 1, 2, 4 or 8")]
pub struct TopologyError {
    cpus: u8,
    threads_per_core: u8,
}

impl Default for CpuOptions {
    fn default() -> Self {
        Self {
            vendor: Vendor::Intel,
            detect: Detect::SplitLock,
            cpus: 1,
            threads_per_core: 1,
            bus_lock_ns: 0,
            seed: 1,
            journal_locks: false,
        }
    }
}

impl CpuOptions {
    /// Processors, cores and threads, as Bochs wants them.
    ///
    /// # Errors
    /// If the last core would lack a thread, there is no CPU at all, or a core's threads do not fill their bits of an
    /// APIC ID.
    pub fn topology(&self) -> Result<String, TopologyError> {
        let Self {
            cpus,
            threads_per_core,
            ..
        } = *self;
        match cpus.checked_rem(threads_per_core) {
            Some(0) if cpus > 0 && threads_per_core.is_power_of_two() => {
                Ok(format!("1:{}:{threads_per_core}", cpus / threads_per_core))
            }
            _ => Err(TopologyError {
                cpus,
                threads_per_core,
            }),
        }
    }

    /// What Bochs calls the CPU.
    #[must_use]
    pub fn model(&self) -> &'static str {
        match self.vendor {
            Vendor::Intel => "tigerlake",
            Vendor::Amd => "ryzen",
        }
    }
}

/// The words that the CPU understands in its environment, without the names of files.
impl fmt::Display for CpuOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detect = self
            .detect
            .to_possible_value()
            .expect("no value is skipped");
        write!(
            f,
            "detect={};bus-lock-ns={};seed={};journal-locks={}",
            detect.get_name(),
            self.bus_lock_ns,
            self.seed,
            u8::from(self.journal_locks)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_cpu() {
        let options = CpuOptions {
            detect: Detect::Both,
            bus_lock_ns: 7000,
            seed: 3,
            journal_locks: true,
            ..CpuOptions::default()
        };
        assert_eq!(
            options.to_string(),
            "detect=both;bus-lock-ns=7000;seed=3;journal-locks=1"
        );
    }

    #[test]
    fn threads_make_cores() {
        let topology = |cpus, threads_per_core| {
            let options = CpuOptions {
                cpus,
                threads_per_core,
                ..CpuOptions::default()
            };
            options.topology().ok()
        };
        assert_eq!(topology(1, 1).as_deref(), Some("1:1:1"));
        assert_eq!(topology(4, 2).as_deref(), Some("1:2:2"));
        assert_eq!(topology(3, 2), None);
        assert_eq!(topology(6, 3), None);
        assert_eq!(topology(2, 0), None);
        assert_eq!(topology(0, 1), None);
    }
}
