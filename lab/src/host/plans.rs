//! What is tried while a program watches.

use split_lock_lab::plan::{Experiment, Kick, Thread, Workload};
use split_lock_model::handler::TrapOrigin;

/// What the kernel's own handler does with `mitigate` on.
fn upstream(name: &str, origin: TrapOrigin, workload: Workload) -> Experiment {
    Experiment {
        name: format!("{}-{name}", origin.name()),
        mitigate: true,
        origin,
        workload,
    }
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
        pause_ms: 0,
    });
    Workload::Loop {
        ms,
        threads: threads.collect(),
        phases: 1,
    }
}
