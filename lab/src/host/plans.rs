//! What is tried in each machine.

use split_lock_lab::plan::{Experiment, Kick, Plan, Thread, Workload};
use split_lock_model::handler::TrapOrigin;
use split_lock_model::policy::Alternative;

use super::machine::Shape;

const ORIGINS: [TrapOrigin; 2] = [TrapOrigin::User, TrapOrigin::Guest];

/// Signals a millisecond and more apart: shorter than any sleep, around its end, and longer.
const PERIODS_US: [u64; 8] = [1_000, 3_000, 7_900, 9_300, 11_700, 13_100, 15_900, 21_000];

/// The whole of it for one machine.
pub(crate) fn plan(shape: Shape, phases: Option<u32>) -> Plan {
    let experiments = match (phases, shape) {
        (Some(phases), _) => at_phases(phases, shape),
        (None, Shape::OneCpu) => one_cpu(),
        (None, Shape::TwoCpus | Shape::TwoCpusRealClock) => two_cpus(),
    };
    Plan {
        experiments,
        ..Plan::default()
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
    all.extend(POLICIES.iter().flat_map(|&policy| under(policy)));
    all
}

/// What the module can do instead of the kernel.
const POLICIES: [Alternative; 4] = [
    Alternative::Proceed,
    Alternative::Killable,
    Alternative::RemainingSleep,
    Alternative::FixedEnd,
];

/// The alternatives are there to be compared with the model, not to be mapped out.
fn under(policy: Alternative) -> impl Iterator<Item = Experiment> {
    let experiments = [
        kicked(TrapOrigin::Guest, Kick::Every(1_000), 300),
        kicked(TrapOrigin::Guest, Kick::Every(9_300), 300),
        kicked(TrapOrigin::User, Kick::Every(3_100), 300),
        contended(TrapOrigin::User, 1, &SOME_INTERRUPTED, 600),
    ];
    let under = move |experiment| instead(policy, experiment);
    experiments.into_iter().map(under)
}

/// The same with another handler.
fn instead(policy: Alternative, experiment: Experiment) -> Experiment {
    Experiment {
        name: format!("{policy}-{}", experiment.name),
        policy,
        ..experiment
    }
}

/// On kernels that have only one work item for mitigate=0, the last ones leave a CPU without detection.
fn two_cpus() -> Vec<Experiment> {
    let mut all = Vec::new();
    for origin in ORIGINS {
        all.push(kicked(origin, Kick::Every(1_000), 400));
        for threads in 2..=4 {
            all.push(contended(origin, 2, &vec![Kick::Never; threads], 600));
        }
        all.push(contended(origin, 2, &SOME_INTERRUPTED, 1_000));
    }
    all.extend(ORIGINS.map(|origin| unmitigated(origin, 2, &[Kick::Never; 2], 300)));
    all
}

/// What is short, and has signals that come at the tick sooner or later. How many microseconds a handler takes from here
/// to there, and what of it a tick falls into, is another matter in each build; here it falls everywhere.
fn at_phases(phases: u32, shape: Shape) -> Vec<Experiment> {
    let cpus = shape.cpus() as u16;
    let mut all = Vec::new();
    for origin in ORIGINS {
        all.extend([1_000, 3_100].map(|us| kicked(origin, Kick::Every(us), 12)));
        all.extend([9_300, 13_100].map(|us| kicked(origin, Kick::Every(us), 40)));
        all.push(contended(origin, cpus, &SOME_INTERRUPTED, 60));
        let kicks = vec![Kick::Every(1_000); cpus.into()];
        all.push(unmitigated(origin, cpus, &kicks, 12));
    }
    if shape == Shape::OneCpu {
        for policy in POLICIES {
            all.push(instead(
                policy,
                kicked(TrapOrigin::Guest, Kick::Every(1_000), 30),
            ));
            all.push(instead(
                policy,
                contended(TrapOrigin::User, 1, &SOME_INTERRUPTED, 60),
            ));
        }
    }
    for experiment in &mut all {
        if let Workload::Loop { phases: times, .. } = &mut experiment.workload {
            *times = phases;
        }
    }
    all
}

/// What the kernel's own handler does with `mitigate` on.
fn upstream(name: &str, origin: TrapOrigin, workload: Workload) -> Experiment {
    Experiment {
        name: format!("{}-{name}", origin.name()),
        mitigate: true,
        policy: Alternative::Upstream,
        origin,
        workload,
    }
}

/// Every half millisecond, at phases that lie a quarter of one apart at 250 ticks a second: so each
/// step beyond a threshold has phases that show it.
fn every_timeout(origin: TrapOrigin) -> Experiment {
    let workload = Workload::Single {
        timeouts_us: (2..=60).map(|half_ms| half_ms * 500).collect(),
        phases: 16,
    };
    upstream("timeouts", origin, workload)
}

pub(crate) fn kicked(origin: TrapOrigin, kick: Kick, ms: u64) -> Experiment {
    let name = match kick {
        Kick::Never => "every-nothing".to_owned(),
        Kick::Every(us) => format!("every-{us}us"),
        Kick::EveryCpu(us) => format!("every-{us}us-of-cpu-time"),
    };
    upstream(&name, origin, together(ms, 1, &[kick]))
}

/// Threads whose signals come while they queue, and others that are left alone.
pub(crate) const SOME_INTERRUPTED: [Kick; 4] = [
    Kick::Never,
    Kick::Never,
    Kick::Every(21_000),
    Kick::Every(25_300),
];

pub(crate) fn contended(origin: TrapOrigin, cpus: u16, kicks: &[Kick], ms: u64) -> Experiment {
    let disturbed = kicks.iter().filter(|&&kick| kick != Kick::Never).count();
    let name = format!("{}-threads-{disturbed}-kicked-{cpus}-cpus", kicks.len());
    upstream(&name, origin, together(ms, cpus, kicks))
}

pub(crate) fn unmitigated(origin: TrapOrigin, cpus: u16, kicks: &[Kick], ms: u64) -> Experiment {
    let name = format!("{}-threads-unmitigated-{cpus}-cpus", kicks.len());
    Experiment {
        mitigate: false,
        ..upstream(&name, origin, together(ms, cpus, kicks))
    }
}

fn together(ms: u64, cpus: u16, kicks: &[Kick]) -> Workload {
    let threads = kicks.iter().zip(0..).map(|(&kick, index)| Thread {
        cpu: index % cpus,
        kick,
    });
    Workload::Loop {
        ms,
        threads: threads.collect(),
        phases: 1,
    }
}
