//! What may become of whoever splits a lock on a machine.

use serde::Serialize;

/// What may become of whoever splits a lock on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Condition {
    /// It is made to sleep, and if a timer interrupts the sleep each time it never gets past the instruction.
    Livelock,
    /// It is made to sleep once there are more bus locks a second than this.
    Slowdown {
        /// Bus locks a second, of all programs together.
        per_second: Option<u16>,
    },
    /// It gets SIGBUS.
    Fatal,
    /// It is named in the log, and goes on.
    LogOnly {
        /// Why it is no worse.
        because: LogOnlyReason,
    },
    /// Nothing: the kernel could detect it, and does not.
    Off {
        /// Why it does not.
        because: OffReason,
    },
    /// Nothing: it cannot be detected.
    NotApplicable {
        /// What cannot.
        because: NotApplicableReason,
    },
    /// Nothing: the kernel was built without detection.
    NotCompiledIn,
    /// That is up to the host of this virtual machine, and cannot be seen from inside.
    HostDecides,
    /// The kernel itself split a lock, and died of it.
    KernelSplitLock,
    /// The host of this virtual machine has it trapped inside, where nothing can switch that off.
    HostTraps,
    /// Not enough could be seen to say.
    Unknown,
}

/// Why nobody is made to sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogOnlyReason {
    /// The CPU reports bus locks when they are done (#DB).
    BusLocks,
    /// `kernel.split_lock_mitigate` is 0.
    NotMitigated,
    /// A kernel before 5.19.
    Before519,
}

/// Why nothing is detected that could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OffReason {
    /// The command line says so.
    Parameter,
    /// The kernel said so when it started.
    BootLine,
    /// The kernel could not switch it on.
    MsrAccessFailed,
    /// A rate limit was asked for, of bus locks that this CPU does not report.
    RateLimitWithoutBusLocks,
}

/// What stands in the way of detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotApplicableReason {
    /// The CPU.
    Cpu,
    /// The kernel: it knows nothing of the bus locks that this CPU reports.
    KernelBeforeBusLocks,
    /// The kernel: it is older than any detection.
    KernelBefore57,
    /// The kernel detects nothing, and why is not known.
    Silent,
}

/// What the verdict rests on, the surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Traps that have happened.
    Traps,
    /// What the kernel said when it started.
    BootLine,
    /// The CPU's flags, the command line and the sysctl.
    Settings,
    /// The kernel's release, because a setting could not be seen.
    Release,
    /// Nothing.
    Nothing,
}

/// What the whole comes down to, for a program that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Nobody is hurt here.
    Fine,
    /// Somebody is, or can be.
    Found,
    /// Not enough could be seen.
    CannotSay,
}

impl Basis {
    /// A word that does not change, for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Basis::Traps => "traps",
            Basis::BootLine => "boot_line",
            Basis::Settings => "settings",
            Basis::Release => "release",
            Basis::Nothing => "nothing",
        }
    }
}

impl Condition {
    /// A word that does not change, for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Condition::Livelock => "livelock",
            Condition::Slowdown { .. } => "slowdown",
            Condition::Fatal => "fatal",
            Condition::LogOnly { .. } => "log_only",
            Condition::Off { .. } => "off",
            Condition::NotApplicable { .. } => "not_applicable",
            Condition::NotCompiledIn => "not_compiled_in",
            Condition::HostDecides => "host_decides",
            Condition::KernelSplitLock => "kernel_split_lock",
            Condition::HostTraps => "host_traps",
            Condition::Unknown => "unknown",
        }
    }

    /// In a few words, as a heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Condition::Livelock => "At risk of livelock",
            Condition::Slowdown { .. } => "At risk of slowdown",
            Condition::Fatal => "At risk of SIGBUS",
            Condition::LogOnly { .. } => "Log only",
            Condition::Off { .. } => "Detection is off",
            Condition::NotApplicable { .. } => "Not applicable",
            Condition::NotCompiledIn => "Not compiled in",
            Condition::HostDecides => "The host decides",
            Condition::KernelSplitLock => "The kernel itself split a lock",
            Condition::HostTraps => "Trapped by the host of this virtual machine",
            Condition::Unknown => "Unknown",
        }
    }

    pub(crate) fn is_harmful(self) -> bool {
        matches!(
            self,
            Condition::Livelock
                | Condition::Slowdown { .. }
                | Condition::Fatal
                | Condition::KernelSplitLock
                | Condition::HostTraps
        )
    }

    /// Whether anything that happens would be in the log.
    pub(crate) fn leaves_a_history(self) -> bool {
        self.is_harmful() || matches!(self, Condition::LogOnly { .. })
    }

    /// Whether the kernel would trap nobody, so that there is nothing to log.
    pub(crate) fn leaves_no_traps(self) -> bool {
        matches!(
            self,
            Condition::Off { .. } | Condition::NotApplicable { .. } | Condition::NotCompiledIn
        )
    }

    /// What that means, in sentences.
    #[must_use]
    pub fn meaning(self) -> String {
        match self {
            Condition::Livelock => "A program or virtual machine that splits a lock (a locked instruction across the end of a \
                cache line) is made to sleep each time, and only one thread of the whole machine may go on at a \
                time: it crawls. If a timer's signal interrupts every sleep, it never gets past that one \
                instruction: it hangs."
                .into(),
            Condition::Slowdown { per_second } => format!(
                "Programs that lock the bus are made to sleep while all of them together do so more than {}. \
                 Virtual machines are neither trapped nor throttled. Nobody is held up for ever: that \
                 sleep comes after the instruction, and signals do not interrupt it.",
                per_second.map_or("the configured rate".into(), |n| format!("{n} times a second"))
            ),
            Condition::Fatal => "A program that splits a lock is killed with SIGBUS. Where the CPU detects split locks \
                (#AC), so is a virtual machine monitor whose guest does it."
                .into(),
            Condition::LogOnly { because } => because.meaning().into(),
            Condition::Off { .. } => "Split locks run as fast as the hardware lets them, and are not reported. One \
                program or virtual machine that splits many slows down the whole machine."
                .into(),
            Condition::NotApplicable { because } => format!(
                "{} They cost what the hardware makes them cost, and nothing is made to sleep for them: whatever is \
                 slow has another cause.",
                match because {
                    NotApplicableReason::Cpu => "No kernel can notice split locks here.",
                    NotApplicableReason::KernelBeforeBusLocks | NotApplicableReason::KernelBefore57 =>
                        "This kernel cannot notice split locks; a newer one may.",
                    NotApplicableReason::Silent => "This kernel does not notice split locks.",
                }
            ),
            Condition::NotCompiledIn => "This kernel was built without CONFIG_X86_BUS_LOCK_DETECT: it notices no split \
                locks and makes nobody sleep for them, whatever its command line says."
                .into(),
            Condition::HostDecides => "If this virtual machine's host detects split locks, then a split lock in here makes a \
                virtual CPU stand still for 10 ms or more each time, or for ever. Nothing in here shows that, and \
                nothing in here changes it."
                .into(),
            Condition::KernelSplitLock => "A locked instruction of the kernel or of a module crossed the end of a cache line, and the \
                thread that ran it died (`Split lock detected`), in mode warn as well. That is a bug of this code, or of \
                whoever gave it a misaligned address: often memory is used as something that it is not."
                .into(),
            Condition::HostTraps => "This virtual machine's split locks are trapped (#AC), and it has no way of switching that off: \
                the instruction faults again and again, and the program that runs it hangs."
                .into(),
            Condition::Unknown => "Too little of this machine could be seen.".into(),
        }
    }
}

impl LogOnlyReason {
    fn meaning(self) -> &'static str {
        match self {
            LogOnlyReason::BusLocks => {
                "A program that locks the bus is named in the log each time, as far as the rate limit \
                of the log allows. Nobody is made to sleep, and guests are not trapped by this host. What remains is \
                what the hardware makes a bus lock cost."
            }
            LogOnlyReason::NotMitigated => {
                "A thread that splits a lock is named in the log once, and goes on at once. \
                Nobody is made to sleep. What remains is what the hardware makes a split lock cost: if something is \
                still slow, it is that, or something else altogether."
            }
            LogOnlyReason::Before519 => {
                "A thread that splits a lock is named in the log, and detection is then off for it. \
                Nobody is made to sleep: that comes with Linux 5.19."
            }
        }
    }
}
