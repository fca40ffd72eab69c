//! The machines that a kernel is booted on, and what is tried in each.

use split_lock_lab::cpu::options::{CpuOptions, Detect, Vendor};
use split_lock_lab::cpu::script::Script;
use split_lock_lab::plan::{Experiment, Kick, Thread, Workload};
use split_lock_model::handler::TrapOrigin;
use split_lock_model::kernel::{Mode, Profile, ProfileError};
use split_lock_model::machine::{self, Hardware};

use crate::host::kernel::BootKernel;
use crate::host::kernel::config::Kvm;
use crate::host::kernel::variant::Variant;
use crate::host::machine::rootfs;
use crate::host::machine::runner::SETTLE_MS;

#[derive(Clone, Debug)]
pub(crate) struct MachinePlan {
    pub(crate) name: &'static str,
    pub(crate) options: CpuOptions,
    /// How the kernel is booted; none: without a word about it.
    mode: Option<Mode>,
    /// The words for that on its command line.
    pub(super) boot_words: String,
    pub(crate) experiments: Vec<Experiment>,
}

const ORIGINS: [TrapOrigin; 2] = [TrapOrigin::User, TrapOrigin::Guest];

/// Signals a millisecond and more apart: shorter than any sleep, around its end, and longer.
const PERIODS_US: [u64; 8] = [1_000, 3_000, 7_900, 9_300, 11_700, 13_100, 15_900, 21_000];

/// Threads whose signals come while they queue, and others that are left alone.
const SOME_INTERRUPTED: [Kick; 4] = [
    Kick::Never,
    Kick::Never,
    Kick::Every(21_000),
    Kick::Every(25_300),
];

/// Of the mode `ratelimit`, in a second.
const BUS_LOCKS: u16 = 5;

impl MachinePlan {
    /// All that kernels can show.
    pub(super) fn all() -> Vec<Self> {
        vec![
            Self::new("one-cpu", 1, one_cpu()),
            Self::new("two-cpus", 2, two_cpus()),
            Self::four_cpus_of_two_cores(),
            Self::booted("fatal", Detect::SplitLock, Mode::Fatal, fatal()),
            Self::booted("off", Detect::SplitLock, Mode::Off, off()),
            Self::booted(
                "rate-limit",
                Detect::Both,
                Mode::Ratelimit(BUS_LOCKS),
                rate_limit(),
            ),
            Self::bus_locks("bus-locks", Vendor::Intel),
            Self::bus_locks("amd-bus-locks", Vendor::Amd),
        ]
    }

    /// Instead of everything, signals and ticks that meet, each begun at so many moments within a tick.
    pub(super) fn at_phases(phases: u32) -> Vec<Self> {
        vec![
            Self::new("one-cpu", 1, at_phases(phases, 1)),
            Self::new("two-cpus", 2, at_phases(phases, 2)),
        ]
    }

    pub(crate) fn new(name: &'static str, cpus: u8, experiments: Vec<Experiment>) -> Self {
        let options = CpuOptions {
            cpus,
            journal_locks: true,
            ..CpuOptions::default()
        };
        Self {
            name,
            options,
            mode: None,
            boot_words: String::new(),
            experiments,
        }
    }

    /// CPU 0 and 1 share TEST_CTRL, and 2 and 3.
    fn four_cpus_of_two_cores() -> Self {
        let mut plan = Self::new("four-cpus", 4, siblings());
        plan.options.threads_per_core = 2;
        plan
    }

    fn booted(
        name: &'static str,
        detect: Detect,
        mode: Mode,
        experiments: Vec<Experiment>,
    ) -> Self {
        let mut plan = Self::new(name, 1, experiments);
        plan.options.detect = detect;
        plan.mode = Some(mode);
        plan.boot_words = format!("split_lock_detect={mode}");
        plan
    }

    fn bus_locks(name: &'static str, vendor: Vendor) -> Self {
        let mut plan = Self::booted(name, Detect::BusLock, Mode::Warn, bus_locks());
        plan.options.vendor = vendor;
        plan
    }

    /// What this kernel can do: guests only with KVM.
    pub(crate) fn fitted(&self, kernel: &BootKernel) -> Self {
        let mut plan = self.clone();
        if kernel.kvm(plan.options.vendor) == Kvm::Missing {
            plan.experiments
                .retain(|experiment| experiment.origin == TrapOrigin::User);
        }
        plan
    }

    /// For the first program of the machine.
    pub(crate) fn script(&self, kernel: &BootKernel) -> Script {
        Script {
            // KVM takes seconds to load.
            modules: match self.has_guests() {
                true => rootfs::kvm_modules(kernel, self.options.vendor),
                false => Vec::new(),
            },
            settle_ms: SETTLE_MS,
            policy: kernel.variant.map(Variant::policy),
            experiments: self.experiments.clone(),
            ..Script::default()
        }
    }

    /// Without experiments of one trap at a time.
    pub(super) fn only_loops(&self) -> Self {
        let mut plan = self.clone();
        plan.experiments
            .retain(|experiment| matches!(experiment.workload, Workload::Loop { .. }));
        plan
    }

    /// The same machine by another name.
    pub(super) fn called(&self, name: &'static str) -> Self {
        Self {
            name,
            ..self.clone()
        }
    }

    fn has_guests(&self) -> bool {
        let mut experiments = self.experiments.iter();
        experiments.any(|experiment| experiment.origin == TrapOrigin::Guest)
    }

    /// What the model takes the CPU for.
    pub(super) fn hardware(&self) -> Hardware {
        let vendor = match self.options.vendor {
            Vendor::Intel => machine::Vendor::Intel,
            Vendor::Amd => machine::Vendor::Amd,
        };
        let detect = self.options.detect;
        let has_bus_lock = matches!(detect, Detect::BusLock | Detect::Both);
        Hardware {
            split_lock_ac: matches!(detect, Detect::SplitLock | Detect::Both),
            bus_lock_db: has_bus_lock.then_some(vendor),
        }
    }

    /// Whether there is something to see: kernels do not detect anything on AMD's CPUs before 6.13.
    pub(super) fn is_for(&self, kernel: &Profile) -> bool {
        self.options.vendor == Vendor::Intel || kernel.arms_bus_lock(self.hardware())
    }

    /// What the kernel is then.
    pub(super) fn profile(&self, kernel: &Profile) -> Result<Profile, ProfileError> {
        self.mode
            .map_or(Ok(kernel.clone()), |mode| kernel.with_mode(mode))
    }
}

fn one_cpu() -> Vec<Experiment> {
    let mut all = Vec::new();
    for origin in ORIGINS {
        all.push(every_timeout(origin));
        all.extend(PERIODS_US.map(|us| kicked(origin, Kick::Every(us), 400)));
        all.push(kicked(origin, Kick::EveryCpu(1_000), 400));
        all.push(kicked(origin, Kick::EveryCpu(5_000), 400));
        all.push(contended(origin, 1, &[Kick::Never; 2], 600));
        all.push(contended(origin, 1, &[Kick::Never; 5], 600));
        all.push(contended(origin, 1, &SOME_INTERRUPTED, 1_000));
        all.push(unmitigated(origin, 1, &[Kick::Every(1_000)], 300));
        all.push(unmitigated(origin, 1, &[Kick::Never; 2], 300));
    }
    all
}

/// On kernels that have only one work item for mitigate=0, the last one leaves a CPU without detection for good.
fn two_cpus() -> Vec<Experiment> {
    let user = TrapOrigin::User;
    let mut all = vec![kicked(user, Kick::Every(1_000), 200)];
    for threads in 2..=4 {
        all.push(contended(user, 2, &vec![Kick::Never; threads], 400));
    }
    all.push(contended(user, 2, &SOME_INTERRUPTED, 600));
    all.push(unmitigated(user, 2, &[Kick::Never; 2], 200));
    all
}

/// As with [`two_cpus`], the last one leaves a CPU without detection.
fn siblings() -> Vec<Experiment> {
    let mut all = Vec::new();
    for origin in ORIGINS {
        // The second thread comes by now and then, at any moment of the first one's windows.
        let mut visited = contended(origin, 4, &[Kick::Never; 2], 400);
        visited.name = format!("{}-sibling-comes-by", origin.name());
        if let Workload::Loop { threads, .. } = &mut visited.workload {
            threads[1].pause_ms = 7;
        }
        all.push(visited);
        for threads in [2, 4, 6] {
            all.push(contended(origin, 4, &vec![Kick::Never; threads], 300));
        }
        all.push(contended(origin, 4, &SOME_INTERRUPTED, 400));
    }
    // On cores of their own: siblings are let trap at the same moment, and where there is one work item for all, the trace
    // does not tell which of them was first to take it.
    let mut apart = unmitigated(TrapOrigin::Guest, 4, &[Kick::Never; 2], 200);
    if let Workload::Loop { threads, .. } = &mut apart.workload {
        threads[1].cpu = 2;
    }
    all.push(apart);
    all
}

/// Threads that catch SIGBUS, and try again.
fn fatal() -> Vec<Experiment> {
    ORIGINS
        .map(|origin| kicked(origin, Kick::Never, 200))
        .map(with_pause)
        .into()
}

fn off() -> Vec<Experiment> {
    vec![kicked(TrapOrigin::User, Kick::Never, 200)]
}

/// Longer than a second, which is the interval of the limit. It is the first that the kernel has to count.
fn rate_limit() -> Vec<Experiment> {
    let kicks = [Kick::Never, Kick::Every(3_100)];
    vec![contended(TrapOrigin::User, 1, &kicks, 2_500)]
}

fn bus_locks() -> Vec<Experiment> {
    vec![with_pause(kicked(TrapOrigin::User, Kick::Never, 200))]
}

/// The kernel logs each of these traps.
fn with_pause(mut experiment: Experiment) -> Experiment {
    if let Workload::Loop { threads, .. } = &mut experiment.workload {
        for thread in threads {
            thread.pause_ms = 5;
        }
    }
    experiment
}

/// What is short, and has signals that come at the tick sooner or later. How long a handler takes from here to there, and
/// what of it a tick falls into, is another matter in each build; here it falls everywhere.
fn at_phases(phases: u32, cpus: u16) -> Vec<Experiment> {
    let mut all = Vec::new();
    for origin in ORIGINS {
        all.extend([1_000, 3_100].map(|us| kicked(origin, Kick::Every(us), 12)));
        all.extend([9_300, 13_100].map(|us| kicked(origin, Kick::Every(us), 40)));
        all.push(contended(origin, cpus, &SOME_INTERRUPTED, 60));
        let kicks = vec![Kick::Every(1_000); cpus.into()];
        all.push(unmitigated(origin, cpus, &kicks, 12));
    }
    for experiment in &mut all {
        if let Workload::Loop { phases: times, .. } = &mut experiment.workload {
            *times = phases;
        }
    }
    all
}

/// Every half millisecond, at phases that lie a quarter of one apart at 250 ticks a second: so each step beyond a
/// threshold has phases that show it.
fn every_timeout(origin: TrapOrigin) -> Experiment {
    let workload = Workload::Single {
        timeouts_us: (2..=60).map(|half_ms| half_ms * 500).collect(),
        phases: 16,
    };
    mitigated("timeouts", origin, workload)
}

pub(crate) fn mitigated(name: &str, origin: TrapOrigin, workload: Workload) -> Experiment {
    Experiment {
        name: format!("{}-{name}", origin.name()),
        mitigate: true,
        origin,
        workload,
    }
}

fn kicked(origin: TrapOrigin, kick: Kick, ms: u64) -> Experiment {
    let name = match kick {
        Kick::Never => "every-nothing".to_owned(),
        Kick::Every(us) => format!("every-{us}us"),
        Kick::EveryCpu(us) => format!("every-{us}us-of-cpu-time"),
    };
    mitigated(&name, origin, together(ms, 1, &[kick], 1))
}

fn contended(origin: TrapOrigin, cpus: u16, kicks: &[Kick], ms: u64) -> Experiment {
    let disturbed = kicks.iter().filter(|&&kick| kick != Kick::Never).count();
    let name = format!("{}-threads-{disturbed}-kicked", kicks.len());
    mitigated(&name, origin, together(ms, cpus, kicks, 1))
}

fn unmitigated(origin: TrapOrigin, cpus: u16, kicks: &[Kick], ms: u64) -> Experiment {
    let name = format!("{}-threads-unmitigated", kicks.len());
    Experiment {
        mitigate: false,
        ..mitigated(&name, origin, together(ms, cpus, kicks, 1))
    }
}

/// Threads on one CPU after the other, begun at so many moments within a tick.
pub(crate) fn together(ms: u64, cpus: u16, kicks: &[Kick], phases: u32) -> Workload {
    let threads = kicks.iter().zip(0..).map(|(&kick, index)| Thread {
        cpu: index % cpus,
        kick,
        pause_ms: 0,
    });
    Workload::Loop {
        ms,
        threads: threads.collect(),
        phases,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn experiments_of_a_machine_have_names_of_their_own() {
        for plan in MachinePlan::all()
            .into_iter()
            .chain(MachinePlan::at_phases(3))
        {
            let names: BTreeSet<_> = plan.experiments.iter().map(|one| &one.name).collect();
            assert_eq!(names.len(), plan.experiments.len(), "{}", plan.name);
            assert!(plan.options.topology().is_ok(), "{}", plan.name);
        }
    }

    #[test]
    fn amd_is_tried_where_the_kernel_uses_it() {
        let has_amd = |text: &str| {
            let profile = text.parse().expect("a profile");
            let mut all = MachinePlan::all().into_iter();
            all.any(|plan| plan.options.vendor == Vendor::Amd && plan.is_for(&profile))
        };
        assert!(has_amd("6.13") && !has_amd("6.12"));
    }
}
