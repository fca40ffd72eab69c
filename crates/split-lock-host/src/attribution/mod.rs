//! Who splits locks: programs and instructions in a log, processes and virtual machines on a host, and timers
//! that could keep one of them from ever getting past a split lock.

mod cgroup;
mod fingerprint;
mod known_splitters;
mod kvm;
mod machines;
mod owner;
mod owners;
mod process;
mod program;
mod program_timers;
pub(crate) mod text;
mod thread;
mod timer_suspects;
mod timers;
mod traps;
mod vm;

pub use cgroup::{Container, Engine};
pub use fingerprint::Fingerprint;
pub use known_splitters::{Confidence, KnownKernelSplitter, KnownSplitter, Suspicion};
pub use kvm::{ExitsOfMachine, SignalExits};
pub use machines::{Machine, Machines, Vcpu};
pub use owner::{INITIAL_PID_NAMESPACE, Owner};
pub(crate) use owners::MOST_LOOKUPS;
pub use owners::{OwnerProcess, Owners};
pub use process::Process;
pub use program::{Program, ProgramKind, Space};
pub use program_timers::ProgramTimers;
pub use timer_suspects::{Evidence, Strength, TimerSuspect, TimerSuspects};
pub use timers::{Clock, Notifies, PosixTimer, timerfd_periods};
pub use traps::{
    Address, Group, MOST_ADDRESSES, MOST_GROUPS, MOST_THREADS, Summary, Suppressed, Thread, Traps,
    When,
};
pub use vm::{Manager, Vm, Vmm};
