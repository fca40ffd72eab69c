//! The command line of what runs on the model: `simulate`, `thresholds`, `policies`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use split_lock_model::kernel::Profile;

use super::values::{duration, positive_duration};

/// Simulate one machine that splits locks: does it get anywhere, and where does the time go?
///
/// The verdict comes first, in words; then where each thread's time went, what became of its traps,
/// and the first 30 ms as a timeline. Everything is modelled: it follows from the kernel's rules and
/// from the costs given here, on any machine and without privileges.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    splitlock simulate --kernel 6.6,hz=1000 --timeout 1ms\n  \
    splitlock simulate --kernel debian-12 --timeout 20ms --others 4 --fail-on livelock\n  \
    splitlock simulate --kernel 6.12 --user --timeout 5ms --trace trace.json\n  \
    splitlock simulate --kernel 6.12 --user --budget cpu --timeout 1ms\n  \
    splitlock simulate --kernel 6.12 --budget none --work-after-wait 13ms --fail-on windows-unused\n\n\
    Exit codes: 0 fine, 1 --fail-on has found what it looks for, 2 usage or environment error.")]
pub(crate) struct SimulateArgs {
    /// A release or distribution, with fields to override: `6.6,hz=1000,mitigate=0`, `debian-12`.
    /// Without this option this host's release, as if it were booted with split_lock_detect=warn.
    #[arg(long, value_name = "KERNEL")]
    pub(crate) kernel: Option<Profile>,
    /// After how long a timer interrupts each run of a vCPU; with --user, the period of the
    /// interval timer.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = positive_duration, default_value = "1ms")]
    pub(crate) timeout: Duration,
    /// What the timer counts; with --user, relative and absolute are the same: an interval timer that counts time.
    #[arg(long, value_enum, value_name = "KIND", default_value_t = BudgetKind::Relative)]
    pub(crate) budget: BudgetKind,
    /// Simulate ordinary threads that take a signal from an interval timer, and no vCPUs.
    #[arg(long)]
    pub(crate) user: bool,
    /// What every thread executes: `split` splits one lock after the other, `sparse:10ms` works that
    /// long before each.
    #[arg(long, value_name = "split|sparse:COMPUTE", conflicts_with_all = ["compute", "splits"])]
    pub(crate) guest: Option<GuestKind>,
    /// How long a split lock takes while detection is off.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration, default_value = "1us")]
    pub(crate) split_cost: Duration,
    /// Ordinary work in each turn of the loop.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration, default_value = "0ns")]
    pub(crate) compute: Duration,
    /// Split locks in each turn of the loop.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) splits: u32,
    /// How many such vCPUs or threads there are, each on a core of its own while there are cores.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) threads: u32,
    /// How many more threads split without pause and without a timer. The timed ones join them
    /// after 100 ms.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=64))]
    pub(crate) others: u32,
    /// CPUs of the machine; as many as there are threads if not given.
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<u32>,
    /// CPUs that share a core, and with it the switch of split-lock detection.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) smt: u32,
    #[arg(long, value_enum, value_name = "CPU", default_value_t = HardwareKind::IceLake)]
    pub(crate) hardware: HardwareKind,
    /// Mean time between other signals that reach the timed threads at random.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = positive_duration)]
    pub(crate) noise: Option<Duration>,
    /// How often the timed threads are moved to another CPU.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = positive_duration)]
    pub(crate) migrate: Option<Duration>,
    /// Interrupts that a guest has to serve each time it has waited in the kernel, before it comes
    /// back to its instruction.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration, default_value = "0ns", conflicts_with = "user")]
    pub(crate) work_after_wait: Duration,
    /// For how long other programs of the host have the CPU of a timed thread each time it has
    /// waited in the kernel: an overcommitted host.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration, default_value = "0ns")]
    pub(crate) preempted_after_wait: Duration,
    /// Decides on noise and migration; without those nothing is left to chance.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// When the first tick of the kernel happens.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration, default_value = "0ns")]
    pub(crate) phase: Duration,
    /// The simulated time after which to stop searching for a repeated state.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = positive_duration, default_value = "10s")]
    pub(crate) horizon: Duration,
    /// Print everything as JSON, with times in nanoseconds.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the first second as Chrome trace events, which ui.perfetto.dev opens; `-` is standard
    /// output.
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Draw the beginning, as .svg or .png.
    #[arg(long, value_name = "FILE")]
    pub(crate) picture: Option<PathBuf>,
    /// Draw a second timeline below the first, with this timeout.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = positive_duration, requires = "picture")]
    pub(crate) compare: Option<Duration>,
    /// End with exit code 1 if this is what becomes of a thread.
    #[arg(long, value_enum, value_name = "PROBLEM")]
    pub(crate) fail_on: Option<FailOn>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BudgetKind {
    /// Time since the run began; armed anew for each run.
    Relative,
    /// Time on a fixed grid of deadlines.
    Absolute,
    /// CPU time of the thread, which stands still while the kernel makes it sleep; of a vCPU's thread armed anew for each
    /// run.
    Cpu,
    /// Nothing: there is no timer.
    None,
}

/// What the processors notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HardwareKind {
    /// Split locks, before they happen (#AC): Intel since Ice Lake.
    IceLake,
    /// Those, and bus locks after they happened (#DB): Intel since Sapphire Rapids.
    SapphireRapids,
    /// Bus locks after they happened: AMD since Zen 5.
    #[value(name = "zen-5")]
    Zen5,
    /// Nothing.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailOn {
    /// It never completes another turn: proved, or it has completed none at the horizon.
    Livelock,
    /// Of the windows without detection that it gets, more than half close before it has come to
    /// its split lock.
    WindowsUnused,
}

/// A program by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GuestKind {
    /// One split lock after the other.
    Split,
    /// So much ordinary work before each.
    Sparse(Duration),
}

impl FromStr for GuestKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "split" => Ok(GuestKind::Split),
            Some(("sparse", compute)) => duration(compute).map(GuestKind::Sparse),
            _ => Err("a guest is `split`, or `sparse:10ms` for example".into()),
        }
    }
}

/// Print from which timeout on a kernel lets a split-locking thread progress.
///
/// Derived from the kernel's rules, for every tick rate before and since Linux 6.12, or for one
/// kernel: up to which signal period a thread never gets past its split lock, and from which on it
/// always does. In between it depends on where the trap falls between two ticks.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    splitlock thresholds\n  \
    splitlock thresholds --kernel debian-12 --others 8\n  \
    splitlock thresholds --json\n\n\
    Exit codes: 0 fine, 2 usage or environment error.")]
pub(crate) struct ThresholdsArgs {
    /// One kernel only: `6.6,hz=1000`, `debian-12`.
    #[arg(long, value_name = "KERNEL")]
    pub(crate) kernel: Option<Profile>,
    /// Also print the smallest safe timeout while 1 to N other cores split locks without pause.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=4095))]
    pub(crate) others: u32,
    /// Print JSON, with times in nanoseconds.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Compare what the kernel does with what it could do instead.
///
/// Each behaviour is simulated: with VMM timers from 1 to 49 ms, alone and next to four threads that
/// split without pause; against an attacker who chooses its own timer; and for how long signals have
/// to wait.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    splitlock policies\n  \
    splitlock policies --kernel 6.15,hz=1000 --out policies.svg\n\n\
    Exit codes: 0 fine, 2 usage or environment error.")]
pub(crate) struct PoliciesArgs {
    /// The kernel whose ticks and features they share.
    #[arg(long, value_name = "KERNEL", default_value = "6.15,hz=250")]
    pub(crate) kernel: Profile,
    /// Draw them, as .svg or .png.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Print JSON, with times in nanoseconds.
    #[arg(long)]
    pub(crate) json: bool,
}
