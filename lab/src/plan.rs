//! Experiments: what the booted machine is to try.

use std::iter;

use serde::{Deserialize, Serialize};
use split_lock_model::handler::TrapOrigin;

/// Everything for one boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Kernel modules to load, in this order, by their file names in `/modules`.
    pub modules: Vec<String>,
    /// What to measure, in this order.
    pub experiments: Vec<Experiment>,
    /// Experiments beside which a program watches, afterwards.
    pub watched: Vec<WatchedExperiment>,
    /// Programs to run at the end.
    pub commands: Vec<GuestCommand>,
}

/// Threads that split locks, and what disturbs them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Experiment {
    /// A short name, unique in its plan.
    pub name: String,
    /// `kernel.split_lock_mitigate`.
    pub mitigate: bool,
    /// Whether the threads split locks themselves, or their guests do.
    pub origin: TrapOrigin,
    /// What they do.
    pub workload: Workload,
}

/// What the threads of an experiment do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// One thread, one trap at a time, each followed by one signal: every timeout at every phase.
    Single {
        /// Microseconds from just before the trap to the signal.
        timeouts_us: Vec<u64>,
        /// Moments within a tick at which the trap is made, evenly spread.
        phases: u32,
    },
    /// All threads at once.
    Loop {
        /// For how long.
        ms: u64,
        /// The threads.
        threads: Vec<Thread>,
        /// All of it as often as that, begun at moments within a tick that are evenly spread.
        phases: u32,
    },
}

/// One thread of a [`Workload::Loop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// The CPU that it stays on.
    pub cpu: u16,
    /// What signals it gets.
    pub kick: Kick,
    /// How long it sleeps after each split lock, in milliseconds.
    pub pause_ms: u64,
}

/// Signals for a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kick {
    /// Only one, at the end of the experiment.
    Never,
    /// One every so many microseconds of wall time.
    Every(u64),
    /// One every so many microseconds of the thread's own CPU time.
    EveryCpu(u64),
}

/// What the machine says of an experiment, beside the kernel's trace of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Split locks that the threads or their guests have completed.
    pub completed: u64,
    /// SIGBUS that the threads got.
    pub sigbus: u64,
    /// Times that KVM_RUN gave up with KVM_EXIT_EXCEPTION.
    pub exceptions: u64,
    /// Events that found the kernel's trace buffer full.
    pub lost_events: u64,
    /// Calls that the kernel's probes missed.
    pub missed_probes: u64,
}

/// An experiment that begins when a program has said its first line, and ends before the program does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchedExperiment {
    /// What is watched.
    pub experiment: Experiment,
    /// The program that watches, and its arguments.
    pub argv: Vec<String>,
}

/// What a guest's kernel says when an interrupt came while its interrupts were off, in the middle of the entry of another
/// one (the interrupted frame has IF clear): QEMU's nested SVM does that now and then, and the guest shows nothing.
pub const QEMU_INTERRUPTED: &str = "ENTRY_TRAMPOLINE stack guard page was hit";

/// A program to run in the machine, and what it prints goes out as bundles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestCommand {
    /// Names the bundles.
    pub name: String,
    /// `kernel.split_lock_mitigate` meanwhile.
    pub mitigate: bool,
    /// Whether detection is on meanwhile.
    pub detection: bool,
    /// How often it may be tried until it does not end with exit code 2, or with [`QEMU_INTERRUPTED`].
    pub attempts: u32,
    /// The program and its arguments.
    pub argv: Vec<String>,
}

impl GuestCommand {
    /// `splitlock`, once, with `arguments` between spaces.
    #[must_use]
    pub fn splitlock(name: &str, arguments: &str) -> Self {
        Self {
            name: name.to_owned(),
            mitigate: true,
            detection: true,
            attempts: 1,
            argv: splitlock(arguments),
        }
    }
}

/// The command line that runs the project's program in the machine.
#[must_use]
pub fn splitlock(arguments: &str) -> Vec<String> {
    let words = iter::once("/bin/splitlock").chain(arguments.split(' '));
    words.map(str::to_owned).collect()
}

/// Where the plan lies in the machine.
pub const PLAN_FILE: &str = "/plan.json";

/// Where kernel modules lie in the machine.
pub const MODULES: &str = "/modules";

/// The name of the bundle that says that everything was done.
pub const LAST_BUNDLE: &str = "end";
