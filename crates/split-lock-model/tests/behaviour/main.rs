//! What kernels do, and what people meet on them, against the handler, the simulator and the closed
//! forms.

mod handler;
mod policies;
mod properties;
mod real_kernels;
mod scenes;
mod thresholds;

use split_lock_model::kernel::Profile;
use split_lock_model::machine::{CpuId, Topology};
use split_lock_model::sim::{Program, Scenario, TaskSpec};
use split_lock_model::time::Nanos;

/// How long a split lock of [`guest`] takes.
const SPLIT: Nanos = Nanos(500);

fn profile(text: &str) -> Profile {
    text.parse().expect("a profile")
}

fn machine(cpus: u32, siblings: u32) -> Topology {
    Topology::new(cpus, siblings).expect("a machine")
}

fn guest() -> Program {
    Program::split_loop(SPLIT).expect("a program")
}

/// Threads that split without pause on CPUs 0 to `others` - 1, and a thread on the CPU after them.
fn next_to_others(others: u32, guest: Program, subject: TaskSpec) -> Scenario {
    let splitting = |cpu| TaskSpec::user(guest, None).on(CpuId(cpu));
    let mut tasks: Vec<_> = (0..others).map(splitting).collect();
    tasks.push(subject.on(CpuId(others)));
    Scenario::new(machine(others + 1, 1), tasks)
}
